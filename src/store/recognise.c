/* SPDX-License-Identifier: MIT */
#include "store/recognise.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"

static int64_t read_content(void *arg, void *buf, size_t len, uint64_t off)
{
	struct recognise *r = arg;

	return r->read(r, buf, len, off);
}

static int64_t read_beside(void *arg, const char *name, void *buf, size_t len)
{
	struct recognise *r = arg;
	struct node *dir;
	char own[NAME_MAX + 1];
	struct at at;
	int64_t got;
	int fd;

	while (strncmp(name, "../", 3) == 0)
		name += 3; /* config.json of vLLM lies above: searched upwards */
	if (!node_where(r->st->nodes, r->node, &dir, own))
		return -ENOENT;
	got = -ENOENT;
	for (int up = 0; up < 5 && got == -ENOENT; up++) {
		struct node *parent;

		if (node_at_child(r->st->nodes, dir, name, &at) < 0)
			break;
		fd = io_open_regular(at.dirfd, at.name, O_RDONLY, 0);
		node_at_put(r->st->nodes, &at);
		if (fd >= 0) {
			got = io_pread(fd, buf, len, 0);
			io_close(&fd);
			break;
		}
		if (node_is_root(dir) || !node_where(r->st->nodes, dir, &parent, own))
			break;
		node_forget(r->st->nodes, dir, 1);
		dir = parent;
	}
	node_forget(r->st->nodes, dir, 1);
	return got;
}

struct layout_input recognise_input(struct recognise *r)
{
	return (struct layout_input){
		.name = "", .dir = "", .size_bytes = r->size, .read = read_content, .arg = r
	};
}

int recognise_layout(struct recognise *r, struct layout **ret)
{
	char name[NAME_MAX + 1], declared[512], dir_path[PATH_MAX], crc[256];
	struct layout_input in = recognise_input(r);
	struct node *dir;

	if (!node_where(r->st->nodes, r->node, &dir, name))
		return -ESTALE;
	node_path(r->st->nodes, dir, dir_path, sizeof(dir_path));
	node_forget(r->st->nodes, dir, 1);
	in.name = name;
	in.dir = dir_path;
	in.read_beside = read_beside;
	if (index_setting(r->st, r->node, "user.kvcache.layout", declared, sizeof(declared)))
		in.declared = declared;
	in.checksummed = store_getxattr(r->st, r->node, "user.vllm.kv_crc32c", crc, sizeof(crc)) >=
			 0;
	return layout_recognise(&in, ret);
}
