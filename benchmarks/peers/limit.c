/* The least that a server can do: the benchmarks' work with nothing but system calls. ``limit PORT``.
 *
 * Paths: /echo; /publish, each message goes to the room; /room; any other keeps nothing. Knows one key, the benchmarks'
 * own, and frames of at most 65,535 bytes. One recv() for what has come, one send() for each delivery.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS 65536
#define BUFFER 262144

static enum { NEW, IDLE, MEMBER, ECHO, PUBLISHER } kinds[CONNECTIONS];
static struct { unsigned char *data; ssize_t size; } rests[CONNECTIONS];  /* of frames that have come in part */
static int room[CONNECTIONS], members;
static const char answer[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: JmW9GxqwvdkMxv+WDBIt1H5ACYk=\r\n\r\n";

static void handshake(int fd, const char *head) {
    kinds[fd] = !strncmp(head, "GET /echo ", 10) ? ECHO : !strncmp(head, "GET /publish ", 13) ? PUBLISHER
              : !strncmp(head, "GET /room ", 10) ? MEMBER : IDLE;
    if (kinds[fd] == MEMBER) room[members++] = fd;
    send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
}

/* One masked frame: unmask it in place, put a server's head before it, send it. Its length; 0: it is not all there. */
static ssize_t forward(int fd, unsigned char *frame, ssize_t left) {
    ssize_t size, head = 2;
    if (left < 8) return 0;
    if ((size = frame[1] & 127) == 126) {
        size = frame[2] << 8 | frame[3];
        head = 4;
    }
    if (left < head + 4 + size) return 0;
    unsigned char *key = frame + head, *payload = key + 4, *out = payload - head, first = frame[0];
    for (ssize_t i = 0; i < size; i++) payload[i] ^= key[i & 3];
    out[0] = first;
    out[1] = head == 4 ? 126 : size;
    if (head == 4) {
        out[2] = size >> 8;
        out[3] = size;
    }
    if (kinds[fd] == ECHO) send(fd, out, head + size, MSG_NOSIGNAL);
    for (int i = 0; kinds[fd] == PUBLISHER && i < members; i++) send(room[i], out, head + size, MSG_NOSIGNAL);
    return head + 4 + size;
}

static void leave(int fd) {
    for (int i = 0; kinds[fd] == MEMBER && i < members; i++) {
        if (room[i] == fd) room[i--] = room[--members];
    }
    rests[fd].size = 0;
    close(fd);
}

static void serve(int fd) {
    static unsigned char buffer[BUFFER];
    ssize_t kept = rests[fd].size, at = 0, length;
    memcpy(buffer, rests[fd].data, kept);
    ssize_t got = recv(fd, buffer + kept, BUFFER - 1 - kept, 0);
    if (got <= 0) {
        leave(fd);
    } else if (kinds[fd] == NEW) {
        buffer[got] = 0;
        handshake(fd, (char *)buffer);
    } else {
        for (got += kept; (length = forward(fd, buffer + at, got - at)); at += length) {}
        if ((rests[fd].size = got - at)) {
            rests[fd].data = realloc(rests[fd].data, got - at);
            memcpy(rests[fd].data, buffer + at, got - at);
        }
    }
}

static void take(int epoll, int listener) {
    int fd = accept(listener, NULL, NULL), on = 1;
    if (fd < 0) return;
    if (fd >= CONNECTIONS) abort();
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    kinds[fd] = NEW;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (count != 2) return 2;
    address.sin_port = htons(atoi(arguments[1]));
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int found = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < found; i++) {
            if (events[i].data.fd == listener) take(epoll, listener);
            else serve(events[i].data.fd);
        }
    }
}
