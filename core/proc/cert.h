/* moonquay cert: makes certificates for development, shows certificates, and checks them as a
 * server would. */
#ifndef PROC_CERT_H
#define PROC_CERT_H

/*
 * Runs the command with the words that stand behind it. Returns the exit status: 0; 64 usage; 77 a
 * file or directory is not ours to read or write; 78 what is in the files is wrong, or stands in
 * the way. Errors are one line on standard error; what cert check found is its answer, on standard
 * output.
 */
int cert_run(int argc, char **argv);

#endif
