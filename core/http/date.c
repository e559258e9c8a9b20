/*
 * HTTP dates. The calendar is computed here, in the proleptic Gregorian form and without the C
 * library's locale and time zone, which an application may change under us.
 */
#include "http/date.h"

#include <stdbool.h>
#include <time.h>

#include "base/err.h"
#include "http/chars_priv.h"

#define DAY_SECONDS  86400
#define FIRST_SECOND (-62167219200) /* 0000-01-01: four digits hold no year before it */
#define LAST_SECOND  253402300799   /* 9999-12-31 23:59:59, nor behind it */

static const char day_names[7][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct moment {
    int64_t year;
    int month, day, hour, minute, second; /* month from 0, day from 1 */
};

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 0000-01-01 to the first of January of year, which is not negative. */
static int64_t days_before_year(int64_t year)
{
    int64_t past = year - 1; /* the year 0 is a leap year and counts itself */

    return year == 0 ? 0 : 365 * year + past / 4 - past / 100 + past / 400 + 1;
}

static int days_before_month(int month, bool leap)
{
    static const int before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};

    return before[month] + (leap && month > 1);
}

#define EPOCH_DAYS 719528 /* 1970-01-01, counted from 0000-01-01 */

static void put_digits(char *at, int digits, int64_t number)
{
    for (int i = digits - 1; i >= 0; i--, number /= 10)
        at[i] = (char)('0' + number % 10);
}

void date_format(char out[DATE_BYTES], int64_t unix_seconds)
{
    if (unix_seconds < FIRST_SECOND)
        unix_seconds = FIRST_SECOND;
    if (unix_seconds > LAST_SECOND)
        unix_seconds = LAST_SECOND;

    int64_t since_zero = unix_seconds - FIRST_SECOND;
    int64_t days = since_zero / DAY_SECONDS, seconds = since_zero % DAY_SECONDS;
    int64_t year = days / 366; /* never too late; a step a year of the leap days it lags */

    while (days_before_year(year + 1) <= days)
        year++;

    int day = (int)(days - days_before_year(year)), month = 11;
    bool leap = is_leap(year);

    while (days_before_month(month, leap) > day)
        month--;

    memcpy(out, day_names[(days + 6) % 7], 3); /* 0000-01-01 was a Saturday */
    memcpy(out + 3, ", 00 ", 5);
    put_digits(out + 5, 2, day - days_before_month(month, leap) + 1);
    memcpy(out + 8, month_names[month], 3);
    memcpy(out + 11, " 0000 00:00:00 GMT", 18);
    put_digits(out + 12, 4, year);
    put_digits(out + 17, 2, seconds / 3600);
    put_digits(out + 20, 2, seconds / 60 % 60);
    put_digits(out + 23, 2, seconds % 60);
}

/* Takes literal off the front of *text. */
static bool take(struct span *text, const char *literal, size_t len)
{
    if (text->len < len || memcmp(text->at, literal, len) != 0)
        return false;
    text->at += len;
    text->len -= len;
    return true;
}

/* Takes a number of exactly digits digits. */
static bool take_number(struct span *text, int digits, int *number)
{
    *number = 0;
    for (int i = 0; i < digits; i++, text->at++, text->len--) {
        if (text->len == 0 || !char_is(text->at[0], CHAR_DIGIT))
            return false;
        *number = *number * 10 + (text->at[0] - '0');
    }
    return true;
}

/* Takes a day's name, in full or its first three letters. Which day it is does not matter: the date
 * says it. */
static bool take_day_name(struct span *text, bool full)
{
    for (int i = 0; i < 7; i++)
        if (take(text, day_names[i], full ? strlen(day_names[i]) : 3))
            return true;
    return false;
}

static bool take_month(struct span *text, int *month)
{
    for (*month = 0; *month < 12; ++*month)
        if (take(text, month_names[*month], 3))
            return true;
    return false;
}

static bool take_time(struct span *text, struct moment *moment)
{
    return take_number(text, 2, &moment->hour) && take(text, ":", 1) &&
           take_number(text, 2, &moment->minute) && take(text, ":", 1) &&
           take_number(text, 2, &moment->second);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool read_fixdate(struct span text, struct moment *moment)
{
    int year = 0;
    bool good = take_day_name(&text, false) && take(&text, ", ", 2) &&
                take_number(&text, 2, &moment->day) && take(&text, " ", 1) &&
                take_month(&text, &moment->month) && take(&text, " ", 1) &&
                take_number(&text, 4, &year) && take(&text, " ", 1) && take_time(&text, moment) &&
                take(&text, " GMT", 4) && text.len == 0;

    moment->year = year;
    return good;
}

/*
 * "Sunday, 06-Nov-94 08:49:37 GMT". A year that would lie more than 50 years ahead is the last one
 * in the past with these two digits (RFC 9110 section 5.6.7).
 */
static bool read_rfc850(struct span text, struct moment *moment)
{
    int year = 0;

    if (!(take_day_name(&text, true) && take(&text, ", ", 2) &&
          take_number(&text, 2, &moment->day) && take(&text, "-", 1) &&
          take_month(&text, &moment->month) && take(&text, "-", 1) &&
          take_number(&text, 2, &year) && take(&text, " ", 1) && take_time(&text, moment) &&
          take(&text, " GMT", 4) && text.len == 0))
        return false;

    time_t now = time(NULL);
    struct tm today;

    gmtime_r(&now, &today);
    int this_year = today.tm_year + 1900;
    moment->year = this_year / 100 * 100 + year;
    if (moment->year > this_year + 50)
        moment->year -= 100;
    else if (moment->year + 100 <= this_year + 50)
        moment->year += 100;
    return true;
}

/* "Sun Nov  6 08:49:37 1994" */
static bool read_asctime(struct span text, struct moment *moment)
{
    int year = 0;
    bool good = take_day_name(&text, false) && take(&text, " ", 1) &&
                take_month(&text, &moment->month) && take(&text, " ", 1) &&
                (take(&text, " ", 1) ? take_number(&text, 1, &moment->day)
                                     : take_number(&text, 2, &moment->day)) &&
                take(&text, " ", 1) && take_time(&text, moment) && take(&text, " ", 1) &&
                take_number(&text, 4, &year) && text.len == 0;

    moment->year = year;
    return good;
}

/* A second of 60 is a leap second. */
static bool is_moment(const struct moment *moment)
{
    bool leap = is_leap(moment->year);
    int last = moment->month == 11 ? 31
                                   : days_before_month(moment->month + 1, leap) -
                                         days_before_month(moment->month, leap);

    return moment->day >= 1 && moment->day <= last && moment->hour < 24 && moment->minute < 60 &&
           moment->second <= 60;
}

int date_parse(struct span text, int64_t *unix_seconds)
{
    struct moment moment = {0};

    if (!read_fixdate(text, &moment) && !read_rfc850(text, &moment) && !read_asctime(text, &moment))
        return ERR_INVALID;
    if (!is_moment(&moment))
        return ERR_INVALID;

    int64_t days = days_before_year(moment.year) +
                   days_before_month(moment.month, is_leap(moment.year)) + moment.day - 1 -
                   EPOCH_DAYS;

    *unix_seconds = days * DAY_SECONDS + moment.hour * 3600 + moment.minute * 60 + moment.second;
    return 0;
}
