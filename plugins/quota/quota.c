// A quota per workload: so many requests in each window of so many seconds. The windows are fixed, counted from 1970,
// so that every node and every instance has the same ones. The count is in the host's shared data, where all instances
// see it, and changes by compare-and-swap. Whatever the host cannot answer refuses the request.
#include "config.h"

#define CAS_TRIES_MAX 8
#define NANOSECONDS 1000000000u
#define NO_METRIC UINT32_MAX

static struct quota quota;
static uint32_t quota_root;  // the context that `quota` belongs to, 0 while there is none
static uint32_t refused_metric = NO_METRIC;

// What the shared data holds for one workload.
struct record {
  uint64_t window, count;
};

// How counting one request ended.
enum outcome { ADMITTED, OVER_QUOTA, CONTENDED, HOST_FAILED };

static enum outcome count_request(uint64_t window);
static int key_of_workload(struct text *key);
static enum outcome count_in(const struct text *key, uint64_t window);
static int read_record(const struct text *key, struct record *record, uint32_t *cas);
static struct record in_window(struct record record, uint64_t window);
static void refuse_over_quota(uint64_t seconds_left);
static void refuse_unavailable(const char *why);
static void respond(uint32_t code, const char *title, const char *detail, uint64_t retry_after);
static void put_pair_sizes(struct text *map, size_t name_size, size_t value_size);
static void log_text(uint32_t level, const char *text, const char *fault, uint64_t byte);

EXPORT(proxy_abi_version_0_2_1) void proxy_abi_version_0_2_1(void) {}

EXPORT(proxy_on_context_create) void proxy_on_context_create(uint32_t context, uint32_t root) {
  (void)context, (void)root;
}

EXPORT(proxy_on_vm_start) uint32_t proxy_on_vm_start(uint32_t root, size_t size) {
  (void)root, (void)size;
  return 1;
}

EXPORT(proxy_on_configure) uint32_t proxy_on_configure(uint32_t root, size_t size) {
  (void)size;
  arena_reset();
  if (quota_root && quota_root != root) {
    log_text(LOG_ERROR, "an instance has one quota, and this one has it already", NULL, 0);
    return 0;
  }
  char *text = NULL;
  size_t text_size = 0, end = 0;
  status got = proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, SIZE_MAX, &text, &text_size);
  if (got != OK && got != NOT_FOUND) {
    log_text(LOG_ERROR, "the host does not hand over the configuration, or it is over 32 KiB", NULL, 0);
    return 0;
  }
  const char *fault = read_quota(text, text_size, &quota, &end);
  if (fault) {
    log_text(LOG_ERROR, "configuration: ", fault, end);
    return 0;
  }
  quota_root = root;
  static const char metric[] = "quota_refused";
  if (refused_metric == NO_METRIC &&
      proxy_define_metric(METRIC_COUNTER, metric, sizeof metric - 1, &refused_metric) != OK) {
    refused_metric = NO_METRIC;
    log_text(LOG_WARN, "the host has no metrics, so refusals are not counted", NULL, 0);
  }
  return 1;
}

EXPORT(proxy_on_request_headers) uint32_t proxy_on_request_headers(uint32_t context, uint32_t count, uint32_t end) {
  (void)context, (void)count, (void)end;
  arena_reset();
  uint64_t now = 0;
  if (!quota_root || proxy_get_current_time_nanoseconds(&now) != OK) {
    refuse_unavailable("there is no quota, or no time");
    return PAUSE;
  }
  uint64_t second = now / NANOSECONDS;
  switch (count_request(second / quota.seconds)) {
    case ADMITTED: return CONTINUE;
    case OVER_QUOTA: refuse_over_quota(quota.seconds - second % quota.seconds); break;
    case CONTENDED: refuse_unavailable("too many instances count the same workload at once"); break;
    case HOST_FAILED: refuse_unavailable("the host does not name the workload, or does not share data"); break;
  }
  return PAUSE;
}

EXPORT(proxy_on_done) uint32_t proxy_on_done(uint32_t context) {
  (void)context;
  return 1;
}

EXPORT(proxy_on_log) void proxy_on_log(uint32_t context) { (void)context; }

EXPORT(proxy_on_delete) void proxy_on_delete(uint32_t context) {
  if (context == quota_root) quota_root = 0;
}

static enum outcome count_request(uint64_t window) {
  char bytes[4096];
  struct text key = {bytes, 0, sizeof bytes, 0};
  return key_of_workload(&key) ? count_in(&key, window) : HOST_FAILED;
}

// The figures are part of the key: where a host shares data between filters, quotas that differ do not mix.
static int key_of_workload(struct text *key) {
  static const char path[] = "belay\0workload";
  char *name = NULL;
  size_t size = 0;
  status got = proxy_get_property(path, sizeof path - 1, &name, &size);
  if (got != OK && got != NOT_FOUND) return 0;
  put_string(key, "quota/");
  put_number(key, quota.requests);
  put_string(key, "/");
  put_number(key, quota.seconds);
  put_string(key, got == OK && size ? "/workload/" : "/anonymous");
  if (got == OK) put(key, name, size);
  return !key->is_full;
}

// Each try reads anew, for a lost swap means that another request was counted in between.
static enum outcome count_in(const struct text *key, uint64_t window) {
  for (int tries = 0; tries < CAS_TRIES_MAX; tries++) {
    struct record record;
    uint32_t cas = 0;
    if (!read_record(key, &record, &cas)) return HOST_FAILED;
    record = in_window(record, window);
    if (record.count >= quota.requests) return OVER_QUOTA;
    record.count++;
    // A cas of 0 sets without comparing. That is so for a workload's first request ever: the ABI has no "only if there
    // is none".
    status set = proxy_set_shared_data(key->at, key->size, (const char *)&record, sizeof record, cas);
    if (set == OK) return ADMITTED;
    if (set != CAS_MISMATCH) return HOST_FAILED;
  }
  return CONTENDED;
}

static int read_record(const struct text *key, struct record *record, uint32_t *cas) {
  char *data = NULL;
  size_t size = 0;
  status got = proxy_get_shared_data(key->at, key->size, &data, &size, cas);
  record->window = record->count = 0;
  if (got == NOT_FOUND) return 1;
  // Only this plugin writes under this key, so that another size is a host gone wrong.
  if (got != OK || size != sizeof *record) return 0;
  copy((char *)record, data, size);
  return 1;
}

// A record of the next window is from an instance that read the clock a moment later, and counts. One from further
// ahead is from before the clock was set back, and would refuse until then.
static struct record in_window(struct record record, uint64_t window) {
  if (record.window == window || record.window == window + 1) return record;
  return (struct record){window, 0};
}

static void refuse_over_quota(uint64_t seconds_left) {
  if (refused_metric != NO_METRIC) proxy_increment_metric(refused_metric, 1);
  respond(429, "Too Many Requests", "the quota of this workload is used up", seconds_left);
}

// Why is for the operator alone.
static void refuse_unavailable(const char *why) {
  log_text(LOG_ERROR, why, NULL, 0);
  respond(503, "Service Unavailable", "the quota cannot be counted at the moment", 1);
}

static void respond(uint32_t code, const char *title, const char *detail, uint64_t retry_after) {
  static const char type_name[] = "content-type", type[] = "application/problem+json", retry_name[] = "retry-after";
  char body_bytes[256], map_bytes[128], seconds_bytes[20];
  struct text body = {body_bytes, 0, sizeof body_bytes, 0};
  put_string(&body, "{\"title\":\""), put_string(&body, title);
  put_string(&body, "\",\"status\":"), put_number(&body, code);
  put_string(&body, ",\"detail\":\""), put_string(&body, detail), put_string(&body, "\"}");

  struct text seconds = {seconds_bytes, 0, sizeof seconds_bytes, 0};
  put_number(&seconds, retry_after);

  // A header map of the ABI: how many, then all sizes, then names and values, each with a zero behind it.
  struct text map = {map_bytes, 0, sizeof map_bytes, 0};
  uint32_t pairs = 2;
  put(&map, (const char *)&pairs, sizeof pairs);
  put_pair_sizes(&map, sizeof type_name - 1, sizeof type - 1);
  put_pair_sizes(&map, sizeof retry_name - 1, seconds.size);
  put(&map, type_name, sizeof type_name), put(&map, type, sizeof type);
  put(&map, retry_name, sizeof retry_name), put(&map, seconds.at, seconds.size), put(&map, "", 1);

  // A refusal that does not get out must not end as a request that waits: a trap is a refusal, too.
  if (proxy_send_local_response(code, NULL, 0, body.at, body.size, map.at, map.size, -1) != OK) __builtin_trap();
}

static void put_pair_sizes(struct text *map, size_t name_size, size_t value_size) {
  uint32_t sizes[] = {(uint32_t)name_size, (uint32_t)value_size};
  put(map, (const char *)sizes, sizeof sizes);
}

static void log_text(uint32_t level, const char *text, const char *fault, uint64_t byte) {
  char bytes[256];
  struct text line = {bytes, 0, sizeof bytes, 0};
  put_string(&line, "quota: "), put_string(&line, text);
  if (fault) {
    put_string(&line, fault), put_string(&line, ", at byte ");
    put_number(&line, byte);
  }
  proxy_log(level, line.at, line.size);
}
