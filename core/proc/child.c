#include "proc/child.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

void child_unblock(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A signal in the child must not run the master's handlers, which write into its loop. */
pid_t child_fork(void (*become)(const void *arg), const void *arg)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGHUP};
    sigset_t all, before;
    pid_t pid;
    int number;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
            signal(caught[i], SIG_DFL);
        become(arg);
        _exit(1);
    }
    number = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = number;
    return pid;
}
