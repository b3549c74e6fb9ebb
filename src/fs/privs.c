/* SPDX-License-Identifier: MIT */
/* Capabilities by the raw system calls: they are per thread, which is what is
 * wanted here. */
#include "fs/privs.h"

#include <assert.h>
#include <errno.h>
#include <linux/capability.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The leak checker of sanitizer builds attaches to its own process. */
#if defined(__SANITIZE_ADDRESS__)
#define LEAK_CHECKER 1
#elif defined(__has_feature)
#define LEAK_CHECKER __has_feature(address_sanitizer)
#else
#define LEAK_CHECKER 0
#endif

/* File operations on behalf of any user, trusted.* xattrs and passthrough
 * (SYS_ADMIN), leases on others' files, devices by mknod. */
static const unsigned char caps_kept[] = {
	CAP_CHOWN,      CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
	CAP_FSETID,     CAP_SETUID,       CAP_SETGID,          CAP_LEASE,
	CAP_MKNOD,      CAP_SETFCAP,      CAP_SYS_ADMIN,       CAP_SYS_NICE,
#if LEAK_CHECKER
	CAP_SYS_PTRACE,
#endif
};

static int caps_get(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capget, &h, data) < 0 ? -errno : 0;
}

static int caps_set(const struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &h, data) < 0 ? -errno : 0;
}

void privs_harden(void)
{
	const struct rlimit none = { 0, 0 };
	struct rlimit files;

	umask(0);
	(void)setrlimit(RLIMIT_CORE, &none); /* PR_SET_DUMPABLE suffices */
	if (!LEAK_CHECKER)
		(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files); /* fewer: fewer open files */
	}
}

int privs_drop(void)
{
	struct __user_cap_data_struct data[2];
	uint32_t keep[2] = { 0, 0 };
	int r = caps_get(data);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(caps_kept); i++)
		keep[caps_kept[i] / 32] |= 1u << (caps_kept[i] % 32);
	for (int i = 0; i < 2; i++) {
		data[i].effective &= keep[i];
		data[i].permitted &= keep[i];
		data[i].inheritable = 0;
	}
	return caps_set(data);
}

void privs_reduce(struct privs_saved *ret)
{
	struct __user_cap_data_struct data[2];

	static_assert(sizeof(data) == sizeof(ret->sets), "capget's layout");
	ret->valid = caps_get(data) == 0;
	if (!ret->valid)
		return;
	memcpy(ret->sets, data, sizeof(data));
	data[0].effective &= 1u << CAP_SYS_ADMIN;
	data[1].effective = 0;
	ret->valid = caps_set(data) == 0;
}

void privs_restore(const struct privs_saved *s)
{
	struct __user_cap_data_struct data[2];

	if (!s->valid)
		return;
	memcpy(data, s->sets, sizeof(data));
	(void)caps_set(data); /* raising within what is permitted cannot fail */
}
