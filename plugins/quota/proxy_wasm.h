// The part of the proxy-wasm ABI 0.2.1 that the quota needs. The host writes what it returns into memory that it gets
// from proxy_on_memory_allocate.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) extern
#define EXPORT(name) __attribute__((export_name(#name)))

enum { OK = 0, NOT_FOUND = 1, CAS_MISMATCH = 8 };
enum { LOG_WARN = 3, LOG_ERROR = 4 };
enum { BUFFER_PLUGIN_CONFIGURATION = 7 };
enum { METRIC_COUNTER = 0 };
enum { CONTINUE = 0, PAUSE = 1 };

typedef uint32_t status;

IMPORT(proxy_log) status proxy_log(uint32_t level, const char *text, size_t size);
IMPORT(proxy_get_current_time_nanoseconds) status proxy_get_current_time_nanoseconds(uint64_t *time);
IMPORT(proxy_get_buffer_bytes)
status proxy_get_buffer_bytes(uint32_t buffer, size_t start, size_t size_max, char **data, size_t *size);
IMPORT(proxy_get_property) status proxy_get_property(const char *path, size_t path_size, char **data, size_t *size);
IMPORT(proxy_get_shared_data)
status proxy_get_shared_data(const char *key, size_t key_size, char **data, size_t *size, uint32_t *cas);
IMPORT(proxy_set_shared_data)
status proxy_set_shared_data(const char *key, size_t key_size, const char *data, size_t size, uint32_t cas);
IMPORT(proxy_define_metric) status proxy_define_metric(uint32_t kind, const char *name, size_t size, uint32_t *metric);
IMPORT(proxy_increment_metric) status proxy_increment_metric(uint32_t metric, int64_t by);
IMPORT(proxy_send_local_response)
status proxy_send_local_response(uint32_t code, const char *details, size_t details_size, const char *body,
                                 size_t body_size, const char *headers, size_t headers_size, int32_t grpc_code);
