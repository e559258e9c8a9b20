/* The executable: reads the command line and hands over to the room that does the work. */
#include <stdio.h>

#include "base/version.h"
#include "proc/cert.h"
#include "proc/http.h"
#include "proc/master.h"
#include "proc/options.h"
#include "proc/registrar_process.h"
#include "proc/status.h"
#include "proc/worker.h"

int main(int argc, char **argv)
{
    struct options options;
    struct err_text text = {0};
    int status = 0;

    if (options_parse(&options, argc, argv, &text) < 0) {
        fprintf(stderr, "moonquay: %s\n", text.text);
        options_fini(&options);
        return text.exit_code;
    }
    switch (options.command) {
    case COMMAND_SERVE:
    case COMMAND_HOST:
        status = master_run(&options);
        break;
    case COMMAND_REGISTRAR:
        status = registrar_process_run();
        break;
    case COMMAND_WORKER:
        status = worker_run();
        break;
    case COMMAND_STATUS:
        status = status_run(argc - 2, argv + 2);
        break;
    case COMMAND_CERT:
        status = cert_run(argc - 2, argv + 2);
        break;
    case COMMAND_HTTP:
        status = http_run(argc - 2, argv + 2);
        break;
    case COMMAND_WORDS:
        options_words();
        break;
    case COMMAND_OPTIONS:
        settings_print_as(stdout, options.form);
        break;
    case COMMAND_VERSION:
        puts("moonquay " MOONQUAY_VERSION);
        break;
    case COMMAND_HELP:
        options_help();
        break;
    }
    options_fini(&options);
    return status;
}
