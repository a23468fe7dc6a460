/*
 * Fields that objects lack which exist already: memory by the address of an object and a number, zeroed when
 * it is first asked for. Of each CPU's code, in any context: nothing waits and nothing sleeps.
 */
#ifndef KGP_SHADOW_OBJECTS
#define KGP_SHADOW_OBJECTS 4096
#endif
#ifndef KGP_SHADOW_BYTES
#define KGP_SHADOW_BYTES 65536
#endif

typedef unsigned int word;

struct field {
	word object;		/* 0: free, for good if nothing follows */
	word id;
	word size;
	word place;		/* from the beginning of the memory, plus 1; 0 while it is made */
	word gone;
};

static struct field fields[KGP_SHADOW_OBJECTS];
static unsigned char memory[KGP_SHADOW_BYTES] __attribute__((aligned(16)));
static word used;

static word exchange(volatile word *at, word was, word is)
{
	word found;

	asm volatile("1: lwarx %0,0,%1\n\tcmpw 0,%0,%2\n\tbne- 2f\n\tstwcx. %3,0,%1\n\tbne- 1b\n2:\tsync"
		     : "=&r"(found) : "r"(at), "r"(was), "r"(is) : "cr0", "memory");
	return found;
}

static struct field *find(word object, word id, int create)
{
	word home = (object >> 3 ^ object >> 13 ^ id * 2654435761u) % KGP_SHADOW_OBJECTS, n;

	for (n = 0; n < KGP_SHADOW_OBJECTS; n++) {
		struct field *one = &fields[(home + n) % KGP_SHADOW_OBJECTS];
		word found = one->object;

		if (found == 0) {
			if (!create)
				return 0;
			found = exchange(&one->object, 0, object);
			if (found == 0) {
				one->id = id;
				return one;
			}
		}
		if (found == object && one->id == id)
			return one;
	}
	return 0;
}

void *kgp_shadow_get(const void *object, word id)
{
	struct field *one = find((word)object, id, 0);

	return one && one->place && !one->gone ? memory + one->place - 1 : 0;
}

void *kgp_shadow(const void *object, word id, word size)
{
	struct field *one = find((word)object, id, 1);
	word at, end;

	if (!one)
		return 0;
	if (one->place && size <= one->size) {
		if (one->gone && exchange(&one->gone, 1, 0)) {
			unsigned char *byte = memory + one->place - 1;

			for (at = 0; at < one->size; at++)
				byte[at] = 0;
		}
		return memory + one->place - 1;
	}
	if (one->place)
		return 0;
	size = (size + 7) & ~7u;
	do {
		at = *(volatile word *)&used;
		end = at + size;
		if (end > KGP_SHADOW_BYTES)
			return 0;
	} while (exchange(&used, at, end) != at);
	one->size = size;
	if (exchange(&one->place, 0, at + 1))
		return memory + one->place - 1;	/* another was faster */
	return memory + at;
}

void kgp_shadow_free(const void *object, word id)
{
	struct field *one = find((word)object, id, 0);

	if (one && one->place)
		one->gone = 1;
}
