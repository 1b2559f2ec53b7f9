/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor under the time to an API's first answer: a program that binds a Unix socket, listens,
 * and gives every request one fixed answer, whatever it says. api_floor SOCKET
 */
#include <err.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void answer(int client)
{
	static const char text[] = "HTTP/1.1 200 \r\nContent-Type: application/json\r\n"
				   "Content-Length: 14\r\n\r\n{\"id\":\"floor\"}";
	char request[4096];

	/* A small request comes in one piece. */
	while (read(client, request, sizeof(request)) > 0) {
		if (write(client, text, sizeof(text) - 1) < 0) {
			break;
		}
	}
	close(client);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 2 || strlen(argv[1]) >= sizeof(address.sun_path)) {
		errx(2, "usage: api_floor SOCKET");
	}
	strcpy(address.sun_path, argv[1]);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16)) {
		err(1, "%s", argv[1]);
	}
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0) {
			answer(client);
		}
	}
}
