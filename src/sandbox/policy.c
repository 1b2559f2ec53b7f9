// SPDX-License-Identifier: Apache-2.0
/*
 * The roles' policies: only references, the lists stand where the calls are made. A list that many
 * threads need (a worker's loop) comes from the room that makes the calls as well.
 */
#include "policy.h"

#include "vmm/api.h"
#include "vmm/console_hub.h"
#include "vmm/freezer.h"
#include "vmm/http_server.h"
#include "vmm/instance_syscalls.h"
#include "vmm/log.h"
#include "vmm/migration_address.h"
#include "vmm/migration_descriptors.h"
#include "vmm/netdev.h"
#include "vmm/notify.h"
#include "vmm/page_service.h"
#include "vmm/pager.h"
#include "vmm/relay.h"
#include "vmm/run_directory.h"
#include "vmm/run_syscalls.h"
#include "vmm/tls_syscalls.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_entropy.h"
#include "vmm/virtio_net.h"
#include "vmm/vm_syscalls.h"
#include "vmm/worker.h"

const struct policy sandbox_policies[SANDBOX_ROLES] = {
	[SANDBOX_ROLE_MAIN] = { { &log_syscalls, &vm_main_syscalls, &run_syscalls,
				  &run_output_syscalls, &worker_syscalls, &instance_main_syscalls,
				  &console_hub_main_syscalls, &http_server_syscalls, &api_syscalls,
				  &run_directory_syscalls, &notify_syscalls } },
	[SANDBOX_ROLE_MACHINE] = { { &log_syscalls,
				     &worker_syscalls,
				     &vm_machine_syscalls,
				     &arch_machine_syscalls,
				     &virtio_blk_ops.syscalls,
				     &virtio_net_ops.syscalls,
				     &netdev_tap_ops.syscalls,
				     &netdev_socket_ops.syscalls,
				     &netdev_open_syscalls,
				     &virtio_console_ops.syscalls,
				     &run_output_syscalls,
				     &console_hub_output_syscalls,
				     &virtio_entropy_ops.syscalls,
				     &job_syscalls,
				     &snapshot_job_syscalls,
				     &freezer_syscalls,
				     &migration_syscalls,
				     &migration_connect_syscalls,
				     &migration_pass_syscalls,
				     &pager_arm_syscalls } },
	[SANDBOX_ROLE_VCPU] = { { &log_syscalls, &vcpu_syscalls, &run_output_syscalls,
				  &console_hub_output_syscalls, &instance_serial_syscalls } },
	[SANDBOX_ROLE_BLOCK] = { { &log_syscalls, &worker_syscalls, &virtio_blk_ops.syscalls } },
	[SANDBOX_ROLE_NET] = { { &log_syscalls, &worker_syscalls, &virtio_net_ops.syscalls,
				 &netdev_tap_ops.syscalls, &netdev_socket_ops.syscalls } },
	[SANDBOX_ROLE_CONSOLE] = { { &log_syscalls, &worker_syscalls, &virtio_console_ops.syscalls,
				     &run_output_syscalls, &console_hub_output_syscalls } },
	[SANDBOX_ROLE_ENTROPY] = { { &log_syscalls, &worker_syscalls,
				     &virtio_entropy_ops.syscalls } },
	[SANDBOX_ROLE_JOB] = { { &log_syscalls, &worker_syscalls, &job_syscalls,
				 &snapshot_job_syscalls, &migration_syscalls,
				 &migration_connect_syscalls, &migration_pass_syscalls,
				 &pager_arm_syscalls, &page_service_syscalls } },
	[SANDBOX_ROLE_PAGER] = { { &log_syscalls, &worker_syscalls, &pager_syscalls,
				   &snapshot_pager_syscalls } },
	[SANDBOX_ROLE_FREEZER] = { { &log_syscalls, &worker_syscalls, &freezer_syscalls } },
	[SANDBOX_ROLE_RECEIVE] = { { &log_syscalls, &worker_syscalls, &job_syscalls,
				     &migration_syscalls, &migration_accept_syscalls,
				     &migration_pass_syscalls } },
	[SANDBOX_ROLE_RELAY] = { { &log_syscalls, &worker_syscalls, &relay_syscalls } },
	[SANDBOX_ROLE_TLS] = { { &log_syscalls, &worker_syscalls, &relay_syscalls, &tls_syscalls,
				 &migration_connect_syscalls, &migration_accept_syscalls } },
	[SANDBOX_ROLE_PAGES] = { { &log_syscalls, &worker_syscalls, &job_syscalls, &pager_syscalls,
				   &migration_syscalls, &migration_accept_syscalls,
				   &page_service_syscalls } },
};
