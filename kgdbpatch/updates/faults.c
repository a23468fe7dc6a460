/*
 * Linux looks up where a fault goes on in tables that it made when it started. This looks into the update's
 * own table first: it takes the place of search_exception_tables.
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
