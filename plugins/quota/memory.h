// Memory without a library. Everything that the host hands over lives until the next callback begins, since nothing of
// it is needed longer: what outlasts a callback is copied into a static variable of its own. So the arena cannot leak,
// and one that is full refuses.
#pragma once
#include "proxy_wasm.h"

static _Alignas(8) char arena[32 * 1024];
static size_t arena_used;

static void arena_reset(void) { arena_used = 0; }

static void *arena_take(size_t size) {
  if (size > sizeof arena - arena_used) return NULL;
  void *taken = arena + arena_used;
  size_t rounded = (size + 7) & ~(size_t)7;
  arena_used += rounded;
  return taken;
}

EXPORT(proxy_on_memory_allocate) void *proxy_on_memory_allocate(size_t size) { return arena_take(size); }

static void copy(char *to, const char *from, size_t size) {
  while (size--) *to++ = *from++;
}

// Text that is put together piece by piece. What does not fit is left out, and `is_full` says so.
struct text {
  char *at;
  size_t size, size_max;
  int is_full;
};

static void put(struct text *text, const char *from, size_t size) {
  if (size > text->size_max - text->size) {
    text->is_full = 1;
    return;
  }
  copy(text->at + text->size, from, size);
  text->size += size;
}

static void put_string(struct text *text, const char *string) {
  size_t size = 0;
  while (string[size]) size++;
  put(text, string, size);
}

static void put_number(struct text *text, uint64_t number) {
  char digits[20];
  size_t first = sizeof digits;
  do digits[--first] = (char)('0' + number % 10);
  while (number /= 10);
  put(text, digits + first, sizeof digits - first);
}
