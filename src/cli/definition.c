// SPDX-License-Identifier: Apache-2.0
/* See definition.h. */
#include "definition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/options_json.h"

json_t *definition_make(json_t *config, const struct run_settings *settings,
			const char *kernel_cmdline, bool created)
{
	auto_free char *directory = getcwd(NULL, 0);
	json_t *run = options_to_json(&run_settings_options, settings, 0);

	if (directory == NULL || run == NULL ||
	    !options_absolute_paths(&run_settings_options, run, directory)) {
		json_decref(config);
		json_decref(run);
		return NULL;
	}
	return json_pack("{s:i, s:s, s:b, s:o*, s:o, s:o}", "version", DEFINITION_VERSION,
			 "vmm_version", VMM_VERSION, "created", created, "kernel_cmdline",
			 kernel_cmdline != NULL ? json_string(kernel_cmdline) : NULL, "run", run,
			 "config", config);
}

int definition_save(const char *name, const json_t *definition, struct error *e)
{
	auto_free char *text =
		definition != NULL ? json_dumps(definition, JSON_INDENT(2) | JSON_DIGITS) : NULL;
	size_t len;

	if (text == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	len = strlen(text);
	text[len] = '\n'; /* over the NUL: written by length */
	return definition_write(name, text, len + 1, e);
}

static int check_keys(const json_t *root, struct error *e)
{
	static const char *const known[] = { "version", "vmm_version", "created", "kernel_cmdline",
					     "run",	"config",      NULL };
	const char *unknown = json_unknown_key(root, known);

	return unknown != NULL ? error_set(e, ERROR_JSON, EINVAL, "unknown key '%.60s'", unknown)
			       : 0;
}

static int read_root(struct definition *definition, struct error *e)
{
	json_t *root = definition->root;
	const json_t *version = json_object_get(root, "version");
	const json_t *run = json_object_get(root, "run");

	if (!json_is_integer(version) || json_integer_value(version) < 1) {
		return error_set(e, ERROR_JSON, EINVAL, "version: not a number from 1 on");
	}
	if (json_integer_value(version) > DEFINITION_VERSION) {
		return error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
				 "it is of version %" JSON_INTEGER_FORMAT ", and this vmm knows %d",
				 json_integer_value(version), DEFINITION_VERSION);
	}
	if (check_keys(root, e) < 0) {
		return -EINVAL;
	}
	definition->config = json_object_get(root, "config");
	if (!json_is_object(definition->config) || !json_is_object(run)) {
		return error_set(e, ERROR_JSON, EINVAL, "%s: not an object",
				 json_is_object(run) ? "config" : "run");
	}
	definition->created = json_is_true(json_object_get(root, "created"));
	definition->kernel_cmdline = json_string_value(json_object_get(root, "kernel_cmdline"));
	return options_from_json(&run_settings_options, &definition->settings, run, 0, e);
}

int definition_load(struct definition *definition, const char *name, struct error *e)
{
	int r;

	*definition = (struct definition){ 0 };
	r = definition_read(name, &definition->root, e);
	if (r < 0) {
		return r;
	}
	r = read_root(definition, e);
	if (r < 0) {
		definition_finish(definition);
		(void)error_prefix(e, "definition of '%s'", name);
		(void)error_hint(e, "vmm rm %s removes it", name);
	}
	return r;
}

int definition_check(const struct definition *definition, struct error *e)
{
	const json_t *net;
	size_t i;

	json_array_foreach(json_object_get(definition->config, "network-interfaces"), i, net)
	{
		if (!json_is_string(json_object_get(net, "host_dev_name"))) {
			(void)error_set(e, ERROR_CONFIG, EBADF,
					"network card %zu was an open descriptor of who started "
					"the VM",
					i);
			return error_hint(e, "it cannot be opened again: vmm run, or a tap by its "
					     "name");
		}
	}
	return 0;
}

void definition_finish(struct definition *definition)
{
	json_decref(definition->root);
	*definition = (struct definition){ 0 };
}
