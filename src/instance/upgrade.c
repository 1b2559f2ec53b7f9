/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See upgrade.h: what the source passes, and the token, which both sides use alike.
 *
 * Main makes the list; the job's thread, within its filter, connects, passes it, and takes the token when the machine's state says so. The
 * client controls the name of the socket, which has to be one in the VM's directory; the other process, how long it takes.
 */
#include "upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/migration_address.h"

LOG_DOMAIN("upgrade");

#define UNIX "unix:"
/* In doubt, with the token: how often, and how long between, the locks of disks are tried, which a killed process may have for a moment. */
#define DECISIONS_MAX 500
#define DECISION_NS   20000000

static const char *const place_names[INSTANCE_PLACES] = {
	[INSTANCE_PLACE_DIRECTORY] = "directory",
	[INSTANCE_PLACE_LOCK] = "lock",
	[INSTANCE_PLACE_API] = "api",
	[INSTANCE_PLACE_CONSOLE] = "console",
	[INSTANCE_PLACE_CONSOLE_LOG] = "console-log",
	[INSTANCE_PLACE_EXIT] = "exit",
	[INSTANCE_PLACE_EVENTS] = "events",
	[INSTANCE_PLACE_LOG] = "log",
	[INSTANCE_PLACE_SOCKET] = "socket",
	[INSTANCE_PLACE_SOCKET_LOCK] = "socket-lock",
	[INSTANCE_PLACE_REPORT] = "report",
};

void upgrade_destroy(struct upgrade *upgrade)
{
	int token;

	if (upgrade == NULL) {
		return;
	}
	if (upgrade->instance->upgrade == upgrade) {
		upgrade->instance->upgrade = NULL;
	}
	migration_descriptors_finish(&upgrade->list);
	token = atomic_load(&upgrade->token);
	close_fd(&token);
	free(upgrade->net_fds);
	free(upgrade);
}

/* --- the source ---------------------------------------------------------------------------------- */

static int __cold not_possible(const char *why, const char *cure, struct error *e)
{
	(void)error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP, "upgrade: %s", why);
	return error_hint(e, "%s", cure);
}

static int check_outputs(const struct instance *instance, struct error *e)
{
	const struct config *config = instance->config;

	if (config->serial_fd < 0 && config->log_fd < 0 && config->metrics_fd < 0) {
		return 0;
	}
	return not_possible("logger, metrics or the serial port's output go to a file, which this "
			    "version does not hand over",
			    "stop the VM, and start it with the new vmm", e);
}

static int add_memory(struct upgrade *upgrade, struct error *e)
{
	struct guest_memory *mem = vm_memory(upgrade->instance->vm);
	const uint32_t count = atomic_load(&mem->region_count);
	int r = 0;

	upgrade->passes = guest_memory_is_passable(mem);
	for (uint32_t i = 0; r == 0 && upgrade->passes && i < count; i++) {
		const struct guest_region *region = &mem->regions[i];

		if (atomic_load(&region->size) != 0) {
			r = migration_descriptors_add(
				&upgrade->list, region->fd, e, "%s:%u",
				region->backing == GUEST_MEMORY_HUGETLB ? "hugetlb" : "memfd", i);
		}
	}
	return r;
}

struct adding {
	struct upgrade *upgrade;
	struct error *e;
	int result;
};

static void add_net(void *arg, const char *id, int fd, uint32_t queues)
{
	struct adding *adding = arg;
	struct upgrade *upgrade = adding->upgrade;
	const struct vm_net_config *net = vm_config_find_net(&upgrade->instance->config->vm, id);

	if (adding->result < 0) {
		return;
	}
	if (queues > 1) {
		adding->result =
			not_possible("a network card with several queues cannot be handed "
				     "over",
				     "stop the VM, and start it with the new vmm", adding->e);
		return;
	}
	adding->result = migration_descriptors_add(
		&upgrade->list, fd, adding->e, "%s:%.64s",
		net != NULL && net->kind == VM_NET_TAP ? "tap" : "fd", id);
}

static int add_place(struct upgrade *upgrade, struct error *e)
{
	struct instance_host *host = upgrade->instance->host;
	int fds[INSTANCE_PLACES];
	int r;

	if (host->show_place == NULL) {
		return not_possible("the process of this VM cannot be replaced by another",
				    "stop the VM, and start it with the new vmm", e);
	}
	r = host->show_place(host, fds, e);
	for (int i = 0; r == 0 && i < INSTANCE_PLACES; i++) {
		if (fds[i] >= 0) {
			r = migration_descriptors_add(&upgrade->list, fds[i], e, "%s",
						      place_names[i]);
		}
	}
	return r;
}

/* By way of the directory, which has the socket: its path may be longer than an address can be. */
static int make_address(struct upgrade *upgrade, const char *address, struct error *e)
{
	const char *name = strncmp(address, UNIX, strlen(UNIX)) == 0 ? address + strlen(UNIX) : "";
	int directory = -1;

	for (uint32_t i = 0; i < upgrade->list.count; i++) {
		if (strcmp(upgrade->list.all[i].name, place_names[INSTANCE_PLACE_DIRECTORY]) == 0) {
			directory = upgrade->list.all[i].fd;
		}
	}
	if (name[0] == '\0' || strchr(name, '/') != NULL || directory < 0 ||
	    (size_t)snprintf(upgrade->address, sizeof(upgrade->address), UNIX "/proc/self/fd/%d/%s",
			     directory, name) >= sizeof(upgrade->address)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"upgrade: '%.80s' is not a socket in the VM's directory", address);
		return error_hint(e, "vmm upgrade NAME makes one");
	}
	return 0;
}

static int gather(struct upgrade *upgrade, const struct migrate_request *request, struct error *e)
{
	struct adding adding = { .upgrade = upgrade, .e = e };
	int r = check_outputs(upgrade->instance, e);

	if (r == 0 && request->with_disks) {
		return not_possible("disks stay where they are", "leave with_disks out", e);
	}
	if (r == 0 && request->connections > 1) {
		return not_possible("there is one connection", "leave connections out", e);
	}
	if (r == 0 && (request->postcopy || request->at_limit == MIGRATE_LIMIT_POSTCOPY)) {
		return not_possible("memory goes along", "leave postcopy out", e);
	}
	r = r == 0 ? add_place(upgrade, e) : r;
	r = r == 0 ? make_address(upgrade, request->address, e) : r;
	r = r == 0 ? add_memory(upgrade, e) : r;
	if (r == 0) {
		vm_visit_nets(upgrade->instance->vm, add_net, &adding);
		r = adding.result;
	}
	return r;
}

int upgrade_create(struct upgrade **ret, struct instance *instance,
		   const struct migrate_request *request, struct error *e)
{
	struct upgrade *upgrade = calloc(1, sizeof(*upgrade));
	int r;

	if (upgrade == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "upgrade: out of memory");
	}
	upgrade->instance = instance;
	atomic_store(&upgrade->token, -1);
	r = gather(upgrade, request, e);
	if (r < 0) {
		upgrade_destroy(upgrade);
		return r;
	}
	*ret = instance->upgrade = upgrade;
	return 0;
}

int upgrade_connect(struct upgrade *upgrade, uint64_t silence_ns, struct error *e)
{
	auto_close int fd = -1;
	int token = migration_token_make();
	int r;

	if (token < 0) {
		return error_set_sys(e, ERROR_MIGRATION, -token, "upgrade: eventfd");
	}
	atomic_store(&upgrade->token, token);
	r = migration_descriptors_add(&upgrade->list, token, e, "token");
	if (r < 0) {
		return r;
	}
	fd = migration_address_connect(upgrade->address, false, e);
	if (fd < 0) {
		r = fd;
		(void)error_set(e, ERROR_MIGRATION, -r, "upgrade: the other process has ended");
		return error_hint(e, "is it a vmm, of a version that knows 'vmm upgrade'?");
	}
	r = migration_descriptors_send(&upgrade->list, fd, silence_ns, e);
	return r == 0 ? take_fd(&fd) : r;
}

/* --- both ---------------------------------------------------------------------------------------- */

static bool take_token(struct upgrade *upgrade)
{
	upgrade->ours = upgrade->ours || migration_token_take(atomic_load(&upgrade->token));
	return upgrade->ours;
}

int upgrade_go_on(struct upgrade *upgrade, struct asking *asking, bool resume, struct error *e)
{
	const struct vm_operation wanted = { .type = VM_RESUME };
	int r;

	if (upgrade != NULL && !take_token(upgrade)) {
		return error_set(e, ERROR_WRONG_STATE, EBUSY,
				 "upgrade: the VM is the other process's");
	}
	r = resume ? asking_ask(asking, &wanted, e) : 0;
	/* No instruction was executed; unless it is left in the middle of that, which nobody knows then. */
	if (r < 0 && r != -ECANCELED && upgrade != NULL) {
		upgrade->ours = false;
		migration_token_give_back(atomic_load(&upgrade->token));
	}
	return r;
}

int upgrade_release_disks(const struct upgrade *upgrade, struct asking *asking, struct error *e)
{
	const struct vm_operation wanted = { .type = VM_RELEASE_DISKS,
					     .release = { .stay_here = upgrade != NULL } };

	return asking_ask(asking, &wanted, e);
}

void upgrade_end(struct upgrade *upgrade)
{
	const int token = upgrade != NULL ? atomic_load(&upgrade->token) : -1;

	if (token >= 0) {
		(void)migration_token_take(token);
	}
}

static void answered(struct migration_question *question)
{
	(void)question;
}

bool upgrade_decide(struct upgrade *upgrade, struct migration *m)
{
	const struct timespec pause = { .tv_nsec = DECISION_NS };
	const bool blocked = migration_state(m) == HANDOVER_S_BLOCKED;

	if (upgrade == NULL) {
		return false;
	}
	upgrade->question = (struct migration_question){ .answered = answered };
	if (!take_token(upgrade)) {
		upgrade->question.kind = HANDOVER_DECIDE_GIVE_UP;
	} else if (upgrade->decisions++ < DECISIONS_MAX) {
		if (upgrade->decisions > 1) {
			(void)nanosleep(&pause, NULL);
		}
		upgrade->question.kind =
			blocked ? HANDOVER_DECIDE_RUN : HANDOVER_DECIDE_RUN_VOUCHED;
	} else {
		return false;
	}
	return migration_ask(m, &upgrade->question, NULL) == 0;
}

/* --- the destination ----------------------------------------------------------------------------- */

void upgrade_take_place(struct upgrade *upgrade)
{
	struct instance_host *host = upgrade->instance->host;
	int fds[INSTANCE_PLACES];

	for (int i = 0; i < INSTANCE_PLACES; i++) {
		fds[i] = migration_descriptors_take(&upgrade->list, place_names[i]);
	}
	if (host->take_place != NULL) {
		host->take_place(host, fds);
		return;
	}
	for (int i = 0; i < INSTANCE_PLACES; i++) {
		close_fd(&fds[i]);
	}
}
