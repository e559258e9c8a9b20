/*
 * The configuration file: Lua that returns a table with the keys of moonquay.app { … }. It runs
 * once, in the master, in a state of its own that has no way to the rest of the machine but
 * os.getenv.
 */
#ifndef BIND_CONFIG_FILE_H
#define BIND_CONFIG_FILE_H

#include "base/buf.h"
#include "base/err.h"

/*
 * Adds to pairs what the file sets, as "key\0value\0", each followed by its place
 * (VM_SETTING_PLACE): the line where the key stands, or the file. lua_dir is where the Lua library
 * is. 0; ERR_NOT_FOUND (EXIT_APP_MISSING) without the file; ERR_INVALID for a file that is broken
 * (EXIT_APP_BROKEN) or sets a wrong option (EXIT_OPTION); then pairs hold a part.
 */
int config_file_read(const char *path, const char *lua_dir, struct buf *pairs,
                     struct err_text *text);

#endif
