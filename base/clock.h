/* base/clock.h - time. Durations and deadlines use the monotonic clock; only what people read uses
 * the wall. */
#ifndef CINCH_BASE_CLOCK_H
#define CINCH_BASE_CLOCK_H

#include <stdint.h>

int64_t cn_mono_ns(void);                         /* monotonic, nanoseconds; origin arbitrary */
int64_t cn_mono_ms(void);                         /* monotonic, milliseconds */
int64_t cn_wall_ms(void);                         /* UTC, milliseconds since 1970 */
void cn_sleep_ms(int64_t ms);                     /* resumes after signals */
void cn_wall_text(int64_t wall_ms, char out[25]); /* "2026-11-22T08:33:00.123Z" */

#endif
