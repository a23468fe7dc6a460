/* The steps of the workload: each does one round of something and checks every result. */
#ifndef WORKERS_H
#define WORKERS_H

const char *udp_step(void);
const char *tcp_step(void);
const char *pipe_step(void);
const char *poll_step(void);
const char *file_step(void);
const char *memory_step(void);
const char *proc_step(void);
const char *exec_step(void);
const char *signal_step(void);
const char *timer_step(void);
const char *vector_step(void);

/* Leave the step with a reason unless the condition holds. */
#define CHECK(condition, reason)                                                                                       \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			return (reason);                                                                               \
	} while (0)

#endif
