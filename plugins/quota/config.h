// Reads {"requests": 100, "seconds": 60}, and nothing else: both keys, each once, in any order, as whole numbers.
#pragma once
#include "memory.h"

#define REQUESTS_MAX 1000000000u
#define SECONDS_MAX 31622400u  // a leap year

struct quota {
  uint64_t requests, seconds;
};

struct reader {
  const char *at, *end;
  const char *fault;  // the first thing that is wrong, or NULL
};

static int fail(struct reader *reader, const char *fault) {
  if (!reader->fault) reader->fault = fault;
  return 0;
}

static void skip_space(struct reader *reader) {
  while (reader->at < reader->end &&
         (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r'))
    reader->at++;
}

static int take(struct reader *reader, char expected) {
  skip_space(reader);
  if (reader->at == reader->end || *reader->at != expected) return 0;
  reader->at++;
  return 1;
}

static int take_word(struct reader *reader, const char *word) {
  const char *at = reader->at;
  for (; *word; word++, at++)
    if (at == reader->end || *at != *word) return 0;
  reader->at = at;
  return 1;
}

static int read_number(struct reader *reader, uint64_t max, const char *fault, uint64_t *number) {
  skip_space(reader);
  const char *first = reader->at;
  uint64_t read = 0;
  for (; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9'; reader->at++) {
    read = read * 10 + (uint64_t)(*reader->at - '0');
    if (read > max) return fail(reader, fault);
  }
  // JSON has no leading zeros, so that a first zero is a zero, and a quota of nothing is a mistake. What may follow a
  // number is the caller's next expectation: a fraction or an exponent meets none.
  if (reader->at == first || *first == '0') return fail(reader, fault);
  *number = read;
  return 1;
}

static int read_member(struct reader *reader, struct quota *quota) {
  uint64_t *number;
  uint64_t max;
  const char *fault;
  skip_space(reader);
  if (take_word(reader, "\"requests\"")) {
    number = &quota->requests, max = REQUESTS_MAX;
    fault = "requests has to be a whole number from 1 to 1000000000";
  } else if (take_word(reader, "\"seconds\"")) {
    number = &quota->seconds, max = SECONDS_MAX;
    fault = "seconds has to be a whole number from 1 to 31622400";
  } else {
    return fail(reader, "the keys are \"requests\" and \"seconds\", and there is no other");
  }
  if (*number) return fail(reader, "a key is there twice");
  if (!take(reader, ':')) return fail(reader, "after a key there has to be a colon");
  return read_number(reader, max, fault, number);
}

// Returns what is wrong, or NULL; `end` tells where it stopped reading.
static const char *read_quota(const char *text, size_t size, struct quota *quota, size_t *end) {
  struct reader reader = {text, text + size, NULL};
  struct quota read = {0, 0};
  if (!take(&reader, '{')) fail(&reader, "an object is expected, like {\"requests\": 100, \"seconds\": 60}");
  if (!reader.fault && read_member(&reader, &read)) {
    if (!take(&reader, ',')) fail(&reader, "both \"requests\" and \"seconds\" are required, with a comma between them");
    else if (read_member(&reader, &read) && !take(&reader, '}')) fail(&reader, "the object has to end here");
  }
  skip_space(&reader);
  if (!reader.fault && reader.at != reader.end) fail(&reader, "there is something behind the object");
  *end = (size_t)(reader.at - text);
  if (!reader.fault) *quota = read;
  return reader.fault;
}
