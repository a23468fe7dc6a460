/*
 * Linux looks up where a fault goes on, and what a trap means, in tables that it made when it started. These
 * look into the update's own first: they take the place of search_exception_tables and find_bug.
 */
struct entry {
	int insn, fixup;	/* each relative to itself */
};

extern const struct entry __kgdbpatch_fault_table[], __kgdbpatch_fault_table_end[];
extern const struct entry *kgp_next_lookup(unsigned long at);

const struct entry *kgp_fault_lookup(unsigned long at)
{
	const struct entry *one;

	for (one = __kgdbpatch_fault_table; one < __kgdbpatch_fault_table_end; one++)
		if ((unsigned long)&one->insn + one->insn == at)
			return one;
	return kgp_next_lookup(at);
}

/* Of GENERIC_BUG_RELATIVE_POINTERS and DEBUG_BUGVERBOSE: where, the file, line and flags. */
struct bug {
	int where, file;
	unsigned short line, flags;
};

extern struct bug __kgdbpatch_bug_table[], __kgdbpatch_bug_table_end[];
struct bug *(*kgp_next_find_bug)(unsigned long at) = (void *)4;	/* filled in when it is known */

struct bug *kgp_find_bug(unsigned long at)
{
	struct bug *one;

	for (one = __kgdbpatch_bug_table; one < __kgdbpatch_bug_table_end; one++)
		if ((unsigned long)&one->where + one->where == at)
			return one;
	return kgp_next_find_bug(at);
}
