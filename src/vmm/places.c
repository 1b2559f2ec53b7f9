// SPDX-License-Identifier: Apache-2.0
/*
 * Places of PCI functions in a saved machine. See places.h.
 *
 * By the thread that owns the machine, or builds it. Whoever wrote the file controls all of it: two
 * devices of one id or place, and places that the bus has not, are refused here; one that is not the
 * right kind of device for what was saved is found when its state is loaded.
 */
#include "places.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio_node.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define HEADER_SIZE (sizeof(uint32_t) + sizeof(uint16_t))

static const struct state_field place_fields[] = {
	STATE_FIELD(1, struct place, devfn, 1),
	STATE_BYTES_USED(2, struct place, id, id_len, 1),
};
static const struct state_desc place_state = STATE_DESC("place", 1, struct place, place_fields);

static const struct state_field places_fields[] = {
	STATE_STRUCTS_USED(1, struct places, list, count, &place_state, 1),
};

static bool same_id(const struct place *a, const struct place *b)
{
	return a->id_len == b->id_len && memcmp(a->id, b->id, a->id_len) == 0;
}

static int validate(const void *object, const void *owner, struct error *e)
{
	const struct places *places = object;

	(void)owner;
	for (uint32_t i = 0; i < places->count; i++) {
		const struct place *place = &places->list[i];

		/* The first device is the bridge. */
		if (place->devfn < PCI_DEVFN(1, 0)) {
			return error_set(e, ERROR_STATE, EINVAL,
					 "place %u: function 0x%x is not a device's", i,
					 place->devfn);
		}
		for (uint32_t j = 0; j < i; j++) {
			if (places->list[j].devfn == place->devfn ||
			    same_id(&places->list[j], place)) {
				return error_set(e, ERROR_STATE, EINVAL,
						 "places %u and %u are one place, or of one device",
						 j, i);
			}
		}
	}
	return 0;
}

const struct state_desc places_state =
	STATE_DESC("places", 1, struct places, places_fields, .validate = validate);

static void add(struct places *places, const struct device *device)
{
	struct place *place = &places->list[places->count++];
	size_t len = strlen(device->id);

	/* Ids are shorter: vm_id_validate(). */
	VMM_BUG_ON(len > PLACE_ID_MAX);
	place->devfn = virtio_node_of(device)->pci.function.config.devfn;
	place->id_len = (uint32_t)len;
	memcpy(place->id, device->id, len);
}

static int save(const struct places *places, struct state_buf *buf, struct error *e)
{
	size_t before = buf->len;
	int r;

	if (state_buf_grow(buf, HEADER_SIZE) == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "places of devices");
	}
	r = state_save(&places_state, places, buf, e);
	if (r < 0) {
		buf->len = before;
		return r;
	}
	store_le32(buf->data + before, (uint32_t)(buf->len - before - sizeof(uint32_t)));
	store_le16(buf->data + before + sizeof(uint32_t), places_state.version);
	return 0;
}

int places_save(struct machine *machine, struct state_buf *buf, struct error *e)
{
	struct places *places = calloc(1, sizeof(*places));
	int r;

	if (places == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "places of devices");
	}
	for (uint32_t i = 0; i < machine->count && pci_host_of(machine) != NULL; i++) {
		if (device_is_virtio(machine->devices[i])) {
			add(places, machine->devices[i]);
		}
	}
	r = save(places, buf, e);
	free(places);
	return r;
}

int places_read(struct places **ret, const uint8_t **data, size_t *len, struct error *e)
{
	size_t length;
	int r;

	*ret = NULL;
	length = *len >= HEADER_SIZE ? load_le32(*data) : 0;
	if (length < sizeof(uint16_t) || length > *len - sizeof(uint32_t)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "state of the machine: the places of its devices are cut off");
	}
	*ret = calloc(1, sizeof(**ret));
	if (*ret == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "places of devices");
	}
	r = state_load(&places_state, *ret, *data + HEADER_SIZE, length - sizeof(uint16_t),
		       load_le16(*data + sizeof(uint32_t)), e);
	if (r < 0) {
		free(take_ptr(*ret));
		return r;
	}
	*data += sizeof(uint32_t) + length;
	*len -= sizeof(uint32_t) + length;
	return 0;
}

bool places_find(const struct places *places, const char *id, uint8_t *devfn)
{
	size_t len = strlen(id);

	for (uint32_t i = 0; i < places->count; i++) {
		const struct place *place = &places->list[i];

		if (place->id_len == len && memcmp(place->id, id, len) == 0) {
			*devfn = place->devfn;
			return true;
		}
	}
	return false;
}
