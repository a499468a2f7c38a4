/* coordinator/guest.c - see guest.h. The account is the one that connected (SO_PEERCRED), whatever its
 * messages say. */
#define _GNU_SOURCE
#include "coordinator/guest.h"

#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/check.h"

bool guest_of(int fd, unsigned *uid)
{
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t n = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n)) who.uid = (uid_t)-1;
    *uid = who.uid;
    return who.uid != geteuid() && who.uid != 0;
}

void guest_name(unsigned uid, char name[PR_MAX_NAME + 1])
{
    struct passwd room, *pw = NULL;
    char text[4096];
    if (getpwuid_r(uid, &room, text, sizeof text, &pw)) pw = NULL;
    if (pw && pr_name_valid(pw->pw_name))
        snprintf(name, PR_MAX_NAME + 1, "%s", pw->pw_name);
    else
        snprintf(name, PR_MAX_NAME + 1, "uid-%u", uid);
}
