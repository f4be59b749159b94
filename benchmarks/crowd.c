/* The hot half of clients.py: many client sockets on one epoll, without a copy or an object per message.
 *
 * Compiled when it is first used and called through ctypes, which lets go of Python's lock meanwhile. Functions that
 * wait return 0, or one of the codes below; ``crowd_failed`` then tells which client it was.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OK, LATE, CLOSED, REFUSED, SYSTEM };

#define CHUNK 65536       /* bytes that one read takes */
#define EVENTS 256        /* events that one look at the epoll takes */
#define PER_SOURCE 10000  /* connections from one of 127.0.0.2, .3, ...: each has 28,000 ports */

struct client {
    int fd;
    char *data;             /* what has come since it was taken */
    size_t size, room;      /* of that, and of its memory */
    size_t whole, frames;   /* bytes in whole frames, and how many these are */
    double at;              /* when the last bytes came */
    enum { CONNECTING, ASKING, OPEN } state;
    const char *request;
    size_t request_size;
};

struct crowd {
    int epoll, count, room, failed;
    struct client *clients;
    size_t wanted;          /* frames that each shall have */
    int lacking;            /* clients that do not have them yet */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

struct crowd *crowd_new(void) {
    struct crowd *crowd = calloc(1, sizeof *crowd);
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    return crowd;
}

void crowd_free(struct crowd *crowd) {
    struct linger reset = {1, 0};  /* instead of TIME_WAIT, which would use up the ports */
    for (int i = 0; i < crowd->count; i++) {
        setsockopt(crowd->clients[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(crowd->clients[i].fd);
        free(crowd->clients[i].data);
    }
    close(crowd->epoll);
    free(crowd->clients);
    free(crowd);
}

int crowd_failed(struct crowd *crowd) { return crowd->failed; }

static int fail(struct crowd *crowd, int index, int code) {
    crowd->failed = index;
    return code;
}

/* Count the whole frames from a server (RFC 6455, 5.2), which masks nothing. */
static void count_frames(struct client *c) {
    for (;;) {
        unsigned char *p = (unsigned char *)c->data + c->whole;
        size_t left = c->size - c->whole, head = 2, size;
        if (left < 2) return;
        size = p[1];
        if (size == 126) {
            if (left < (head = 4)) return;
            size = p[2] << 8 | p[3];
        } else if (size == 127) {
            if (left < (head = 10)) return;
            size = 0;
            for (int i = 2; i < 10; i++) size = size << 8 | p[i];
        }
        if (left - head < size) return;
        c->whole += head + size;
        c->frames++;
    }
}

/* Read once. The number of bytes; 0: there are none now; -1: the connection is over. */
static ssize_t take_in(struct crowd *crowd, struct client *c) {
    if (c->room - c->size < CHUNK / 2) c->data = realloc(c->data, c->room = c->room * 2 + CHUNK);
    ssize_t got = recv(c->fd, c->data + c->size, c->room - c->size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) return -1;
    c->size += got;
    c->at = now();
    if (c->state == OPEN) {
        int lacked = c->frames < crowd->wanted;
        count_frames(c);
        if (lacked && c->frames >= crowd->wanted) crowd->lacking--;
    }
    return got;
}

/* Look at the epoll. Without a wait nobody has to wake us up, which would be the server's expense; who else has work on
 * this core is let in. */
static int look(struct crowd *crowd, struct epoll_event *events, int wait_ms) {
    int found = epoll_wait(crowd->epoll, events, EVENTS, wait_ms);
    if (!found && !wait_ms) sched_yield();
    return found;
}

/* Read from whoever has something. */
static int pump(struct crowd *crowd, int wait_ms) {
    struct epoll_event events[EVENTS];
    int found = look(crowd, events, wait_ms);
    for (int i = 0; i < found; i++)
        if (take_in(crowd, &crowd->clients[events[i].data.u32]) < 0) return fail(crowd, events[i].data.u32, CLOSED);
    return OK;
}

/* Poll without sleeping until every client from ``first`` on has ``frames`` frames. */
int crowd_receive(struct crowd *crowd, int first, size_t frames, double timeout) {
    double deadline = now() + timeout;
    crowd->wanted = frames;
    crowd->lacking = 0;
    for (int i = 0; i < crowd->count; i++) crowd->lacking += crowd->clients[i].frames < frames;
    int others = 0;  /* whose frames nobody waits for */
    for (int i = 0; i < first; i++) others += crowd->clients[i].frames < frames;
    for (unsigned turn = 1; crowd->lacking > others; turn++) {
        int code = pump(crowd, 0);
        if (code) return code;
        if (turn % 1024 == 0 && now() > deadline) {
            int index = first;
            while (crowd->clients[index].frames >= frames) index++;
            return fail(crowd, index, LATE);
        }
    }
    return OK;
}

/* Read what comes within so many seconds. */
int crowd_listen(struct crowd *crowd, double seconds) {
    double deadline = now() + seconds, left;
    while ((left = deadline - now()) > 0) {
        int code = pump(crowd, (int)(left * 1000) + 1);
        if (code) return code;
    }
    return OK;
}

/* How many whole frames all of them have. */
size_t crowd_frames(struct crowd *crowd) {
    size_t total = 0;
    for (int i = 0; i < crowd->count; i++) total += crowd->clients[i].frames;
    return total;
}

/* Send from each client its piece of ``data``, which ends at ``ends[i]``. */
int crowd_send(struct crowd *crowd, int first, int count, const char *data, const size_t *ends, double timeout) {
    double deadline = now() + timeout;
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        while (at < ends[i]) {
            ssize_t sent = send(crowd->clients[first + i].fd, data + at, ends[i] - at, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent >= 0) {
                at += sent;
            } else if (errno != EAGAIN) {
                return fail(crowd, first + i, CLOSED);
            } else {  /* perhaps the server waits until we read */
                int code = pump(crowd, 0);
                if (code) return code;
                if (now() > deadline) return fail(crowd, first + i, LATE);
            }
        }
    }
    return OK;
}

static int start(struct crowd *crowd, int port) {
    if (crowd->count == crowd->room) {
        crowd->room = crowd->room * 2 + 64;
        crowd->clients = realloc(crowd->clients, crowd->room * sizeof *crowd->clients);
    }
    int index = crowd->count, on = 1;
    struct client *c = &crowd->clients[index];
    memset(c, 0, sizeof *c);
    if ((c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0) return -1;
    crowd->count++;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000001)};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + index / PER_SOURCE)};
    if (bind(c->fd, (void *)&from, sizeof from) < 0) return -1;
    if (connect(c->fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) return -1;
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = index};
    return epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, c->fd, &event);
}

/* Go on with one handshake: 1 when it is done. */
static int shake(struct crowd *crowd, int index, size_t frames) {
    struct client *c = &crowd->clients[index];
    if (c->state == CONNECTING) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
        if (send(c->fd, c->request, c->request_size, MSG_NOSIGNAL) != (ssize_t)c->request_size) return -CLOSED;
        epoll_ctl(crowd->epoll, EPOLL_CTL_MOD, c->fd, &event);
        c->state = ASKING;
        return 0;
    }
    if (take_in(crowd, c) < 0) return -CLOSED;
    char *end;
    if (c->state == ASKING && c->size && (end = memmem(c->data, c->size, "\r\n\r\n", 4))) {
        if (memcmp(c->data, "HTTP/1.1 101 ", 13)) return -REFUSED;
        c->size -= end + 4 - c->data;
        memmove(c->data, end + 4, c->size);
        c->state = OPEN;
        count_frames(c);
    }
    return c->state == OPEN && c->frames >= frames;
}

static void forget(struct client *c) {
    c->size = c->whole = c->frames = 0;
    if (c->room > CHUNK) {  /* thousands of clients at rest keep no buffers */
        free(c->data);
        c->data = NULL;
        c->room = 0;
    }
}

/* Connect ``count`` clients more, ``in_flight`` at once, and wait for each one's 101 and ``frames`` frames after it. */
int crowd_open(struct crowd *crowd, int port, int count, const char *requests, const size_t *ends, size_t frames,
               int in_flight, double timeout) {
    double deadline = now() + timeout;
    int first = crowd->count, waiting = 0, done = 0;
    struct epoll_event events[EVENTS];
    while (done < count) {
        for (; waiting < in_flight && crowd->count < first + count; waiting++) {
            int i = crowd->count - first;
            if (start(crowd, port) < 0) return fail(crowd, first + i, SYSTEM);
            crowd->clients[first + i].request = requests + (i ? ends[i - 1] : 0);
            crowd->clients[first + i].request_size = ends[i] - (i ? ends[i - 1] : 0);
        }
        int found = look(crowd, events, 0);
        for (int i = 0; i < found; i++) {
            int index = events[i].data.u32, before = crowd->clients[index].state == OPEN;
            if (index < first || (before && crowd->clients[index].frames >= frames)) {
                if (take_in(crowd, &crowd->clients[index]) < 0) return fail(crowd, index, CLOSED);
                continue;
            }
            int state = shake(crowd, index, frames);
            if (state < 0) return fail(crowd, index, -state);
            if (state) waiting--, done++;
        }
        if (done < count && now() > deadline) return fail(crowd, first + done, LATE);
    }
    for (int i = first; i < crowd->count; i++) forget(&crowd->clients[i]);
    return OK;
}

/* A client's bytes; they stay until crowd_forget(). */
const char *crowd_stream(struct crowd *crowd, int index, size_t *size) {
    *size = crowd->clients[index].size;
    return crowd->clients[index].data;
}

void crowd_forget(struct crowd *crowd) {
    for (int i = 0; i < crowd->count; i++) forget(&crowd->clients[i]);
}

/* Drop the first ``count`` clients: reset their connections. */
void crowd_leave(struct crowd *crowd, int count) {
    struct linger reset = {1, 0};
    for (int i = 0; i < count; i++) {
        setsockopt(crowd->clients[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(crowd->clients[i].fd);
        free(crowd->clients[i].data);
    }
    memmove(crowd->clients, crowd->clients + count, (crowd->count -= count) * sizeof *crowd->clients);
    for (int i = 0; i < crowd->count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(crowd->epoll, EPOLL_CTL_MOD, crowd->clients[i].fd, &event);
    }
}

/* Seconds from ``since`` to the last bytes of each client from ``first`` on. */
void crowd_waited(struct crowd *crowd, int first, double since, double *into) {
    for (int i = first; i < crowd->count; i++) into[i - first] = crowd->clients[i].at - since;
}
