/* base/place.h - where the parts of cinch lie that a program needs beside itself. */
#ifndef CINCH_BASE_PLACE_H
#define CINCH_BASE_PLACE_H

#include <stddef.h>

#include "base/error.h"

enum cn_place {
    CN_PLACE_PROGRAM, /* helpers that people do not start: cinch-lat, cinch-rank */
    CN_PLACE_PLUGIN,  /* cinch-gpu.so */
    CN_PLACE_WEB,     /* the dashboard's folder, "web" */
};

/* Writes the path of `name` into out: beside the running program (a build's bin/, or a folder that
 * was copied whole), in ../bin of it (where tests lie), else where `make install` puts it under the
 * prefix that the program itself lies in, so that an installed tree may be moved.
 * CN_ENOTFOUND: in none of them; CN_EIO: the program cannot find itself. */
int cn_place(char *out, size_t cap, enum cn_place what, const char *name, struct cn_error *err);

#endif
