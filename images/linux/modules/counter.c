/* A module that works all the time: a function of its own is called by a timer, and counts. */
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/timer.h>

#define ROOM (1 << 20) /* bytes: what the module takes where modules lie */

static char room[ROOM] = {1}; /* not only zeros: it is in the file, and copied */
static unsigned long calls;
module_param(calls, ulong, 0444);

noinline void counter_tick(unsigned long at)
{
	calls++;
	room[at % ROOM]++;
}

static void tick(struct timer_list *timer)
{
	counter_tick(calls);
	mod_timer(timer, jiffies + 1);
}

static DEFINE_TIMER(timer, tick);

static int __init counter_init(void)
{
	mod_timer(&timer, jiffies + 1);
	return 0;
}

static void __exit counter_exit(void)
{
	del_timer_sync(&timer);
	pr_info("counter: %lu calls\n", calls);
}

module_init(counter_init);
module_exit(counter_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Calls a function of its own with the clock");
