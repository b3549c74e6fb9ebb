/* SPDX-License-Identifier: MIT */
/* One line: ID PARENT MAJ:MIN ROOT WHERE OPTIONS [TAGS...] - TYPE SOURCE OPTIONS */
#include "base/mountinfo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Space, tab, newline and backslash are written as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

static bool line_parse(char *line, struct mountinfo *m)
{
	char *word[5], *save = NULL, *sep = strstr(line, " - "), *type, *source;

	if (!sep)
		return false;
	*sep = '\0';
	for (unsigned i = 0; i < 5; i++) {
		word[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!word[i])
			return false;
	}
	type = strtok_r(sep + 3, " ", &save);
	source = strtok_r(NULL, " \n", &save);
	if (!type || !source)
		return false;
	unescape(word[4]);
	unescape(source);
	*m = (struct mountinfo){ word[2], word[4], type, source };
	return true;
}

bool mountinfo_each(bool (*cb)(const struct mountinfo *m, void *arg), void *arg)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL; /* getline's malloc */
	struct mountinfo m;
	bool found = false;
	size_t cap = 0;

	if (!f)
		return false;
	while (!found && getline(&line, &cap, f) > 0)
		if (line_parse(line, &m))
			found = cb(&m, arg);
	free(line);
	fclose(f);
	return found;
}
