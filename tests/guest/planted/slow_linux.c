/* Slow code, planted: a module for each SPOT. */
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/timer.h>

#define LIST 1
#define UNALIGNED 2
#define LOCK 3
#define TIMER 4
#define POLLING 5

static volatile unsigned int planted_sum;
static struct task_struct *client, *server;

#if SPOT == LIST
struct session {
	struct session *next;
	unsigned int id;
};
static struct session sessions[8000];

noinline struct session *find_session(unsigned int id)
{
	struct session *one = sessions;

	while (one && one->id != id)
		one = one->next;
	return one;
}
#elif SPOT == UNALIGNED
static unsigned char frame[32768 + 8], copied[32768 + 8];

noinline void copy_frame(void)
{
	unsigned int at;

	for (at = 0; at < sizeof(frame) - 8; at++)
		*(volatile unsigned char *)(copied + at + 3) = frame[at + 1];
}
#elif SPOT == LOCK
static DEFINE_MUTEX(table);

noinline void write_back(void)
{
	msleep(60);
	planted_sum++; /* and no tail call before */
}
#elif SPOT == TIMER
static void expired(struct timer_list *timer);
static DEFINE_TIMER(again, expired);

noinline void poll_statistics(void)
{
	unsigned int round;

	for (round = 0; round < 300000; round++)
		planted_sum += round;
}

static void expired(struct timer_list *timer)
{
	poll_statistics();
	mod_timer(&again, jiffies + 1);
}
#elif SPOT == POLLING
noinline void wait_for_device(void)
{
	unsigned long end = jiffies + 10;

	while (time_before(jiffies, end))
		cpu_relax();
}
#endif

noinline void planted_request(void)
{
#if SPOT == LIST
	unsigned int times;

	for (times = 0; times < 50; times++)
		planted_sum += find_session(7900 + times)->id;
#elif SPOT == UNALIGNED
	for (unsigned int times = 0; times < 50; times++)
		copy_frame();
#elif SPOT == LOCK
	mutex_lock(&table);
	planted_sum++;
	mutex_unlock(&table);
#elif SPOT == POLLING
	wait_for_device();
#endif
	planted_sum++;
}

static int requests(void *unused)
{
	while (!kthread_should_stop()) {
		planted_request();
		msleep(10);
	}
	return 0;
}

#if SPOT == LOCK
static int keeper(void *unused)
{
	while (!kthread_should_stop()) {
		mutex_lock(&table);
		write_back();
		mutex_unlock(&table);
		msleep(20);
	}
	return 0;
}
#endif

static int __init planted_init(void)
{
#if SPOT == LIST
	unsigned int at;

	for (at = 0; at < ARRAY_SIZE(sessions); at++) {
		sessions[at].id = at;
		sessions[at].next = at + 1 < ARRAY_SIZE(sessions) ? &sessions[at + 1] : NULL;
	}
#endif
#if SPOT == LOCK
	server = kthread_run(keeper, NULL, "keeper");
#endif
#if SPOT == TIMER
	mod_timer(&again, jiffies + 1);
#else
	client = kthread_run(requests, NULL, "requests");
#endif
	return 0;
}

static void __exit planted_exit(void)
{
#if SPOT == TIMER
	del_timer_sync(&again);
#else
	kthread_stop(client);
#endif
	if (server)
		kthread_stop(server);
}

module_init(planted_init);
module_exit(planted_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Slow on purpose");
