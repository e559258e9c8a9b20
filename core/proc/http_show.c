/*
 * A document is printed by its own names: what a host adds is shown without our knowing it. Nothing
 * in it is trusted with the terminal, and what people may paste into a shell is built of numbers
 * and addresses that we have read ourselves.
 */
#include "proc/http_show.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "net/addr.h"
#include "proc/terminal.h"

#define DEPTH_MOST 8
#define STEP       4 /* blanks a level */

/* ---- records ---- */

/* What a group is called; another has its own name. */
static const char *heading_of(const char *name)
{
    static const struct {
        const char *name, *heading;
    } headings[] = {
        {"urlacl", "Reserved URLs"},
        {"sslcert", "Certificates"},
        {"iplisten", "Addresses to listen at"},
        {"timeout", "Time limits in seconds"},
        {"sessions", "Sessions"},
        {"groups", "Groups"},
        {"queues", "Request queues"},
        {"processes", "Processes"},
        {"urls", "URLs"},
        {"timeouts", "Timeouts in seconds"},
    };

    for (size_t i = 0; i < sizeof(headings) / sizeof(headings[0]); i++)
        if (strcmp(name, headings[i].name) == 0)
            return headings[i].heading;
    return name;
}

static void print_name(const char *name, int indent, int width)
{
    printf("%*s", indent, "");
    terminal_print(stdout, name);
    if (width > 0)
        printf("%*s : ", width - (int)strlen(name), "");
}

static void print_scalar(const json_t *value)
{
    if (json_is_string(value))
        terminal_print(stdout, json_string_value(value));
    else if (json_is_integer(value))
        printf("%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        printf("%g", json_real_value(value));
    else
        printf("%s", json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "not set");
    putchar('\n');
}

static bool is_scalar(const json_t *value)
{
    return !json_is_object(value) && !json_is_array(value);
}

/* Of the names that a value stands beside. */
static int width_of(json_t *object)
{
    const char *key;
    json_t *value;
    int width = 0;

    json_object_foreach(object, key, value) if (is_scalar(value) && (int)strlen(key) > width)
        width = (int)strlen(key);
    return width;
}

static void print_object(json_t *object, int indent);

static void print_item(const char *name, json_t *value, int indent)
{
    if (json_is_object(value)) {
        print_object(value, indent);
    } else if (json_is_array(value)) {
        print_name(name, indent, 0);
        putchar('\n');
    } else {
        printf("%*s", indent, "");
        print_scalar(value);
    }
}

/* A heading, and what belongs to it; records are a line apart. */
static void print_group(const char *name, json_t *group, int indent)
{
    size_t count = json_array_size(group), i;
    json_t *item;

    print_name(heading_of(name), indent, 0);
    printf("%s\n", json_is_array(group) && count == 0 ? ": none" : ":");
    if (indent >= DEPTH_MOST * STEP)
        return;
    if (json_is_object(group)) {
        print_object(group, indent + STEP);
        return;
    }
    json_array_foreach(group, i, item)
    {
        if (i > 0 && json_is_object(item))
            putchar('\n');
        print_item(name, item, indent + STEP);
    }
}

static void print_object(json_t *object, int indent)
{
    int width = width_of(object);
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value) if (is_scalar(value))
    {
        print_name(key, indent, width);
        print_scalar(value);
    }
    else
    {
        print_group(key, value, indent);
    }
}

/* ---- the commands of firewalls ---- */

struct opening {
    int port;
    bool is_v6, is_any;
    char address[NET_ADDR_TEXT];
};

/* Of an element of "ports"; false when it is none. */
static bool read_opening(const json_t *port, struct opening *opening)
{
    const char *address = json_string_value(json_object_get(port, "address"));
    json_int_t number = json_integer_value(json_object_get(port, "port"));
    struct net_addr addr;

    if (address == NULL || net_addr_parse(&addr, span_str(address), 0) < 0 || number < 1 ||
        number > 65535)
        return false;
    opening->port = (int)number;
    opening->is_v6 = addr.family == NET_IPV6;
    net_addr_ip(&addr, opening->address);
    opening->is_any =
        strcmp(opening->address, "0.0.0.0") == 0 || strcmp(opening->address, "::") == 0;
    return true;
}

static void print_nftables(const struct opening *opening)
{
    printf("nft add rule inet filter input ");
    if (!opening->is_any)
        printf("%s daddr %s ", opening->is_v6 ? "ip6" : "ip", opening->address);
    printf("tcp dport %d accept\n", opening->port);
}

static void print_ufw(const struct opening *opening)
{
    printf("ufw allow proto tcp to %s port %d\n", opening->is_any ? "any" : opening->address,
           opening->port);
}

static void print_firewalld(const struct opening *opening)
{
    if (opening->is_any)
        printf("firewall-cmd --permanent --add-port=%d/tcp\n", opening->port);
    else
        printf("firewall-cmd --permanent --add-rich-rule='rule family=\"%s\" destination "
               "address=\"%s\" port port=\"%d\" protocol=\"tcp\" accept'\n",
               opening->is_v6 ? "ipv6" : "ipv4", opening->address, opening->port);
}

static const struct {
    const char *name;
    void (*print)(const struct opening *opening);
    const char *last; /* what stands behind them; "" */
} firewalls[] = {
    {"nftables", print_nftables, ""},
    {"ufw", print_ufw, ""},
    {"firewalld", print_firewalld, "firewall-cmd --reload\n"},
};

static int print_firewalls(const json_t *root, struct err_text *text)
{
    const json_t *ports = json_object_get(root, "ports");
    size_t count = json_array_size(ports);
    struct opening opening;

    for (size_t i = 0; i < count; i++)
        if (!read_opening(json_array_get(ports, i), &opening))
            return err_set(text, EXIT_INTERNAL, ERR_INVALID,
                           "the host's answer has a port that is none");
    if (count == 0)
        printf("# no port is in use that other machines could reach\n");
    for (size_t f = 0; f < sizeof(firewalls) / sizeof(firewalls[0]) && count > 0; f++) {
        printf("%s# %s\n", f ? "\n" : "", firewalls[f].name);
        for (size_t i = 0; i < count; i++)
            if (read_opening(json_array_get(ports, i), &opening))
                firewalls[f].print(&opening);
        printf("%s", firewalls[f].last);
    }
    return 0;
}

/* ---- all of it ---- */

static int print(json_t *root, bool of_firewall, struct err_text *text)
{
    if (of_firewall)
        return print_firewalls(root, text);
    print_object(root, 0);
    if (json_object_size(root) == 0 || json_object_get(root, "warning"))
        printf("done\n");
    return 0;
}

int http_show(struct span document, bool as_json, bool of_firewall, struct err_text *text)
{
    json_error_t wrong;
    json_t *root = json_loadb(document.at, document.len, 0, &wrong);
    int code = 0;

    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(text, EXIT_INTERNAL, ERR_INVALID, "the host's answer is no JSON document");
    }
    if (as_json)
        printf("%.*s\n", (int)document.len, document.at);
    else
        code = print(root, of_firewall, text);
    json_decref(root);
    if (code == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        return err_set(text, EXIT_INTERNAL, ERR_IO, "cannot print the answer: %s", strerror(errno));
    return code;
}
