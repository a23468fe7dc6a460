/* A large module: 16 MiB where modules lie, which it fills, and looks at again when it is taken out. */
#include <linux/init.h>
#include <linux/module.h>

#define WORDS (4ul << 20)

static unsigned int room[WORDS];

static unsigned int expected(unsigned long at)
{
	return 0x9e3779b9u * (unsigned int)(at + 1);
}

static int __init sized_init(void)
{
	for (unsigned long at = 0; at < WORDS; at++)
		room[at] = expected(at);
	pr_info("sized: at %px\n", room);
	return 0;
}

static void __exit sized_exit(void)
{
	unsigned long wrong = 0;

	for (unsigned long at = 0; at < WORDS; at++)
		wrong += room[at] != expected(at);
	pr_info("sized: %lu words of %lu are wrong\n", wrong, WORDS);
}

module_init(sized_init);
module_exit(sized_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Takes memory where modules lie, and checks it");
