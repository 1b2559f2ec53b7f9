// SPDX-License-Identifier: Apache-2.0
/*
 * The option table of `vmm serve`, which is also that of vmm under the name `firecracker`: programs
 * that start Firecracker pass its flags. What a flag of it means that has no place here is said in
 * its help: it is accepted where that harms nobody, refused where its user would rely on it.
 */
#include "serve_config.h"

#include <errno.h>
#include <string.h>

#include "command.h"
#include "elsewhere.h"
#include "vmm/http_server.h"
#include "vmm/vm_config.h"

#define AT(member) .offset = offsetof(struct serve_config, member)

static const struct option option_list[] = {
	{ .name = "api-sock",
	  .type = OPTION_STRING,
	  AT(api_socket),
	  .argument = "PATH",
	  .help = "Unix socket of the API; a stale one is replaced" },
	{ .name = "name",
	  .letter = 'n',
	  .type = OPTION_STRING,
	  AT(name),
	  .argument = "NAME",
	  .help = "make a directory of this name, where the other commands find the VM" },
	{ .name = "id",
	  .type = OPTION_STRING,
	  AT(id),
	  .argument = "ID",
	  .help = "what GET / shows as the id; default: the name" },
	{ .name = "config-file",
	  .type = OPTION_STRING,
	  AT(config_file),
	  .argument = "FILE",
	  .help = "configure the VM from JSON and start it" },
	{ .name = "no-api",
	  .type = OPTION_FLAG,
	  AT(no_api),
	  .help = "no API; needs --config-file" },
	{ .type = OPTION_INCLUDE, AT(logger), .object = &logger_settings_options },
	{ .type = OPTION_INCLUDE, AT(metrics), .object = &metrics_settings_options },
	{ .name = "http-api-max-payload-size",
	  .type = OPTION_U64,
	  AT(body_max),
	  .min = 1024,
	  .max = GIB(1),
	  .argument = "BYTES",
	  .fallback = "1048576",
	  .help = "largest body of a request" },
	{ .type = OPTION_INCLUDE, AT(process), .object = &process_settings_options },
	{ .name = "no-seccomp",
	  .type = OPTION_FLAG,
	  AT(no_seccomp),
	  .help = "accepted: the filters stay on, they cost nothing (--sandbox off)" },
	{ .name = "seccomp-filter",
	  .type = OPTION_STRING,
	  AT(seccomp_filter),
	  .argument = "FILE",
	  .help = "accepted, not read: the built-in filters stay" },
	{ .name = "boot-timer",
	  .type = OPTION_FLAG,
	  AT(boot_timer),
	  .help = "accepted, without effect" },
	{ .name = "enable-pci",
	  .type = OPTION_FLAG,
	  AT(enable_pci),
	  .help = "disks and network cards are on PCI until machine-config says otherwise" },
	{ .name = "metadata",
	  .type = OPTION_STRING,
	  AT(metadata),
	  .argument = "FILE",
	  .help = "refused: there is no metadata service yet" },
	{ .name = "mmds-size-limit",
	  .type = OPTION_U64,
	  AT(mmds_size),
	  .argument = "BYTES",
	  .help = "accepted, without effect" },
	{ .name = "snapshot-version",
	  .type = OPTION_FLAG,
	  AT(snapshot_version),
	  .help = "print the version of the format that snapshots are written in" },
	{ .name = "describe-snapshot",
	  .type = OPTION_STRING,
	  AT(describe_snapshot),
	  .argument = "FILE",
	  .help = "print the version of the format of this state file" },
	{ .name = "start-time-us",
	  .type = OPTION_U64,
	  AT(start_time_us),
	  .argument = "N",
	  .help = "accepted, without effect" },
	{ .name = "start-time-cpu-us",
	  .type = OPTION_U64,
	  AT(start_time_cpu_us),
	  .argument = "N",
	  .help = "accepted, without effect" },
	{ .name = "parent-cpu-time-us",
	  .type = OPTION_U64,
	  AT(parent_cpu_time_us),
	  .argument = "N",
	  .help = "accepted, without effect" },
	{ .name = "version", .type = OPTION_FLAG, AT(version), .help = "print the version" },
	HELP_OPTION(struct serve_config, help),
};
const struct option_table serve_options =
	OPTION_TABLE("serve", option_list, .foreign = elsewhere_serve_flags);

bool serve_config_by_jailer(int argc, char *const argv[])
{
	struct serve_config config = { 0 };
	struct error e = { 0 };
	uint64_t given = 0;

	/* Up to the first word that is no flag, which a command is. */
	(void)options_parse_part(&serve_options, &config, &given, argc, argv, &e);
	return options_given(&serve_options, given, "start-time-us");
}

static int refuse(const char *flag, const char *why, struct error *e)
{
	return error_set(e, ERROR_USAGE, ENOSYS, "%s: %s", flag, why);
}

static int check(const struct serve_config *config, struct error *e)
{
	if (vm_name_validate(config->name, e) < 0) {
		e->code = ERROR_USAGE;
		return -EINVAL;
	}
	if (config->no_api && config->config_file == NULL) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "--no-api without --config-file");
		return error_hint(e, "nobody could configure the VM: add --config-file FILE");
	}
	if (config->no_seccomp && config->seccomp_filter != NULL) {
		return error_set(e, ERROR_USAGE, EINVAL,
				 "--no-seccomp and --seccomp-filter exclude each other");
	}
	if (config->metadata != NULL) {
		return refuse("--metadata", "this version has no metadata service", e);
	}
	return 0;
}

bool serve_config_asks(const struct serve_config *config)
{
	return config->help || config->version || config->snapshot_version ||
	       config->describe_snapshot != NULL;
}

int serve_config_parse(struct serve_config *config, int argc, char **argv, struct error *e)
{
	int r;

	*config = (struct serve_config){ 0 };
	r = options_parse_all(&serve_options, config, &config->given, argc, argv, e);
	if (r < 0 || serve_config_asks(config)) {
		return MIN(r, 0);
	}
	return r > 0 ? command_no_operand(argv[1], "vmm serve --api-sock PATH [OPTIONS]", e)
		     : check(config, e);
}
