/* The reason phrases, as the registry had them when RFC 9110 was the newest text. */
#include "http/status.h"

struct span status_reason(int status)
{
    switch (status) {
    case 100:
        return SPAN("Continue");
    case 101:
        return SPAN("Switching Protocols");
    case 102:
        return SPAN("Processing");
    case 103:
        return SPAN("Early Hints");
    case 200:
        return SPAN("OK");
    case 201:
        return SPAN("Created");
    case 202:
        return SPAN("Accepted");
    case 203:
        return SPAN("Non-Authoritative Information");
    case 204:
        return SPAN("No Content");
    case 205:
        return SPAN("Reset Content");
    case 206:
        return SPAN("Partial Content");
    case 207:
        return SPAN("Multi-Status");
    case 208:
        return SPAN("Already Reported");
    case 226:
        return SPAN("IM Used");
    case 300:
        return SPAN("Multiple Choices");
    case 301:
        return SPAN("Moved Permanently");
    case 302:
        return SPAN("Found");
    case 303:
        return SPAN("See Other");
    case 304:
        return SPAN("Not Modified");
    case 305:
        return SPAN("Use Proxy");
    case 307:
        return SPAN("Temporary Redirect");
    case 308:
        return SPAN("Permanent Redirect");
    case 400:
        return SPAN("Bad Request");
    case 401:
        return SPAN("Unauthorized");
    case 402:
        return SPAN("Payment Required");
    case 403:
        return SPAN("Forbidden");
    case 404:
        return SPAN("Not Found");
    case 405:
        return SPAN("Method Not Allowed");
    case 406:
        return SPAN("Not Acceptable");
    case 407:
        return SPAN("Proxy Authentication Required");
    case 408:
        return SPAN("Request Timeout");
    case 409:
        return SPAN("Conflict");
    case 410:
        return SPAN("Gone");
    case 411:
        return SPAN("Length Required");
    case 412:
        return SPAN("Precondition Failed");
    case 413:
        return SPAN("Content Too Large");
    case 414:
        return SPAN("URI Too Long");
    case 415:
        return SPAN("Unsupported Media Type");
    case 416:
        return SPAN("Range Not Satisfiable");
    case 417:
        return SPAN("Expectation Failed");
    case 421:
        return SPAN("Misdirected Request");
    case 422:
        return SPAN("Unprocessable Content");
    case 423:
        return SPAN("Locked");
    case 424:
        return SPAN("Failed Dependency");
    case 425:
        return SPAN("Too Early");
    case 426:
        return SPAN("Upgrade Required");
    case 428:
        return SPAN("Precondition Required");
    case 429:
        return SPAN("Too Many Requests");
    case 431:
        return SPAN("Request Header Fields Too Large");
    case 451:
        return SPAN("Unavailable For Legal Reasons");
    case 500:
        return SPAN("Internal Server Error");
    case 501:
        return SPAN("Not Implemented");
    case 502:
        return SPAN("Bad Gateway");
    case 503:
        return SPAN("Service Unavailable");
    case 504:
        return SPAN("Gateway Timeout");
    case 505:
        return SPAN("HTTP Version Not Supported");
    case 506:
        return SPAN("Variant Also Negotiates");
    case 507:
        return SPAN("Insufficient Storage");
    case 508:
        return SPAN("Loop Detected");
    case 510:
        return SPAN("Not Extended");
    case 511:
        return SPAN("Network Authentication Required");
    default:
        return SPAN("");
    }
}
