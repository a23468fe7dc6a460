/* A module with what a kernel looks up or rewrites in one: faults, a jump label, a switch. A timer calls it. */
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/jump_label.h>
#include <linux/module.h>
#include <linux/timer.h>
#include <linux/uaccess.h>

#define NOWHERE ((unsigned int *)0xfffffffcul) /* in the last page, which is never mapped */

static DEFINE_STATIC_KEY_FALSE(turned);
static unsigned long calls, faults, detours, sum;
static unsigned int there;
module_param(calls, ulong, 0444);
module_param(faults, ulong, 0444);
module_param(detours, ulong, 0444);

/* Reads a word, which need not be there. */
noinline int tables_read(const unsigned int *from, unsigned int *word)
{
	unsigned int found;

	__get_kernel_nofault(&found, from, unsigned int, fault);
	*word = found;
	return 0;
fault:
	return -EFAULT;
}

/* Takes the long way while the key is turned. */
noinline void tables_detour(void)
{
	if (static_branch_unlikely(&turned))
		detours++;
}

/* Goes by a table of places. */
noinline unsigned int tables_switch(unsigned int what, unsigned int value)
{
	switch (what & 7) {
	case 0:
		return value + 7;
	case 1:
		return value * 3;
	case 2:
		return value ^ value >> 3;
	case 3:
		return ~value;
	case 4:
		return value - there;
	case 5:
		return value | 0x55;
	case 6:
		return value << 2;
	default:
		return there;
	}
}
EXPORT_SYMBOL_GPL(tables_switch);

static void tick(struct timer_list *timer)
{
	unsigned int word = 0;

	if (tables_read(calls++ & 1 ? NOWHERE : &there, &word))
		faults++;
	tables_detour();
	sum += tables_switch(calls, word);
	mod_timer(timer, jiffies + 1);
}

static DEFINE_TIMER(timer, tick);

static int turn(const char *text, const struct kernel_param *param)
{
	if (*text == '1')
		static_branch_enable(&turned);
	else
		static_branch_disable(&turned);
	return 0;
}

static const struct kernel_param_ops turning = {.set = turn};
module_param_cb(turn, &turning, NULL, 0200);

static int __init tables_init(void)
{
	mod_timer(&timer, jiffies + 1);
	return 0;
}

static void __exit tables_exit(void)
{
	del_timer_sync(&timer);
	pr_info("tables: %lu calls, %lu faults, %lu detours, sum %lu\n", calls, faults, detours, sum);
}

module_init(tables_init);
module_exit(tables_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Has an exception table, a jump label and a jump table");
