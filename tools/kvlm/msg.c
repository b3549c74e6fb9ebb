/* SPDX-License-Identifier: MIT */
#include "msg.h"

#include <stdio.h>
#include <string.h>

int msg_fail(struct msg *m, int code, const char *fmt, ...)
{
	va_list ap;

	if (!m)
		return code;
	va_start(ap, fmt);
	vsnprintf(m->text, sizeof(m->text), fmt, ap);
	va_end(ap);
	return code;
}

int msg_prefix(struct msg *m, int code, const char *context)
{
	struct msg old;

	if (!m)
		return code;
	old = *m;
	snprintf(m->text, sizeof(m->text), "%.120s: %.270s", context, old.text);
	return code;
}
