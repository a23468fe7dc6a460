/* Workers that talk: UDP and TCP over loopback, pipes, select/poll/epoll. */
#define _GNU_SOURCE
#include "init.h"
#include "workers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_S 30 /* long: the host may be busy */
#define UDP_BURST 8

static const struct timeval patience = {PATIENCE_S, 0};

static int loopback_socket(int type, struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)address, length) ||
	    getsockname(fd, (struct sockaddr *)address, &length))
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static _Noreturn void echo_datagrams(int fd)
{
	struct sockaddr_in from;
	char data[256];

	for (;;) {
		socklen_t length = sizeof(from);
		const ssize_t size = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &length);

		if (size > 0)
			sendto(fd, data, size, 0, (struct sockaddr *)&from, length);
	}
}

const char *udp_step(void)
{
	static int fd = -1;
	static struct sockaddr_in server;
	static uint32_t sequence;

	if (fd < 0) {
		struct sockaddr_in self;
		const int server_fd = loopback_socket(SOCK_DGRAM, &server);

		CHECK(server_fd >= 0, "no server socket");
		if (fork_bound() == 0)
			echo_datagrams(server_fd);
		close(server_fd);
		fd = loopback_socket(SOCK_DGRAM, &self);
		CHECK(fd >= 0, "no client socket");
	}
	for (int i = 0; i < UDP_BURST; i++) {
		uint32_t out[16], in[16];

		for (int j = 0; j < 16; j++)
			out[j] = ++sequence * 2654435761u;
		CHECK(sendto(fd, out, sizeof(out), 0, (struct sockaddr *)&server, sizeof(server)) == sizeof(out),
		      "sendto");
		CHECK(recvfrom(fd, in, sizeof(in), 0, NULL, NULL) == sizeof(in), "recvfrom");
		CHECK(!memcmp(in, out, sizeof(in)), "datagram changed");
	}
	return NULL;
}

static const char *tcp_exchange(int client, int server)
{
	char out[6000], in[sizeof(out)];
	size_t got = 0;

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 31 + client);
	CHECK(send(client, out, sizeof(out), MSG_NOSIGNAL) == sizeof(out), "send");
	while (got < sizeof(in)) {
		const ssize_t size = recv(server, in + got, sizeof(in) - got, 0);

		CHECK(size > 0, "recv");
		got += size;
	}
	CHECK(!memcmp(in, out, sizeof(in)), "stream changed");
	return NULL;
}

const char *tcp_step(void)
{
	static int listener = -1;
	static struct sockaddr_in address;
	const struct linger at_once = {1, 0}; /* no TIME_WAIT, or the ports run out */
	const char *wrong;
	int client, server;

	if (listener < 0) {
		listener = loopback_socket(SOCK_STREAM, &address);
		CHECK(listener >= 0 && !listen(listener, 4), "listen");
	}
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(client >= 0, "socket");
	setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	if (connect(client, (struct sockaddr *)&address, sizeof(address))) {
		close(client);
		return "connect";
	}
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	wrong = server < 0 ? "accept" : tcp_exchange(client, server);
	close(client);
	close(server);
	return wrong;
}

static _Noreturn void echo_pipe(int in, int out)
{
	char data[4096];
	ssize_t size;

	while ((size = read(in, data, sizeof(data))) > 0)
		if (write(out, data, size) != size)
			break;
	_exit(0);
}

const char *pipe_step(void)
{
	static int to[2] = {-1, -1}, from[2];
	static uint32_t seed;
	uint32_t out[64], in[64];
	size_t got = 0;

	if (to[0] < 0) {
		CHECK(!pipe2(to, O_CLOEXEC) && !pipe2(from, O_CLOEXEC), "pipe");
		if (fork_bound() == 0)
			echo_pipe(to[0], from[1]);
	}
	for (int i = 0; i < 64; i++)
		out[i] = seed = seed * 1664525 + 1013904223;
	CHECK(write(to[1], out, sizeof(out)) == sizeof(out), "write");
	while (got < sizeof(in)) {
		const ssize_t size = read(from[0], (char *)in + got, sizeof(in) - got);

		CHECK(size > 0, "read");
		got += size;
	}
	CHECK(!memcmp(in, out, sizeof(in)), "pipe changed the data");
	return NULL;
}

const char *poll_step(void)
{
	static int pair[2] = {-1, -1}, event, epoll;
	struct epoll_event ready = {.events = EPOLLIN};
	struct timeval no_time = {0, 0};
	uint64_t count = 5;
	fd_set set;
	char byte = 'x';

	if (pair[0] < 0) {
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
		event = eventfd(0, EFD_CLOEXEC);
		epoll = epoll_create1(EPOLL_CLOEXEC);
		CHECK(event >= 0 && epoll >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, event, &ready), "epoll_ctl");
	}
	FD_ZERO(&set);
	FD_SET(pair[1], &set);
	CHECK(select(pair[1] + 1, &set, NULL, NULL, &no_time) == 0, "select saw what is not there");
	CHECK(write(pair[0], &byte, 1) == 1, "write");
	FD_SET(pair[1], &set);
	CHECK(select(pair[1] + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(pair[1], &set), "select");
	struct pollfd poll_both[2] = {{.fd = pair[1], .events = POLLIN}, {.fd = event, .events = POLLIN}};
	CHECK(poll(poll_both, 2, -1) == 1 && poll_both[0].revents == POLLIN && !poll_both[1].revents, "poll");
	CHECK(read(pair[1], &byte, 1) == 1 && byte == 'x', "read");
	CHECK(write(event, &count, sizeof(count)) == sizeof(count), "eventfd write");
	CHECK(epoll_wait(epoll, &ready, 1, -1) == 1, "epoll_wait");
	CHECK(read(event, &count, sizeof(count)) == sizeof(count) && count == 5, "eventfd read");
	CHECK(epoll_wait(epoll, &ready, 1, 0) == 0, "epoll_wait saw what is not there");
	return NULL;
}
