//! Nothing is parsed that nothing enforces: every key of the schema has a test of its effect.

use belay::{config, filter};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// The key, and the test that shows what it does.
const EFFECTS: &[(&str, &str)] = &[
    ("version", "another_version_is_refused"),
    ("stop", "a_lame_duck_accepts_for_a_while"),
    ("stop.lame_duck", "a_lame_duck_accepts_for_a_while"),
    ("stop.grace", "who_takes_too_long_is_cut"),
    ("reload", "a_watched_config_is_read_when_it_changes"),
    ("reload.watch", "a_watched_config_is_read_when_it_changes"),
    ("admin.read", "operators_have_the_rights_that_the_config_gives_them"),
    ("admin.change", "operators_have_the_rights_that_the_config_gives_them"),
    ("node", "node_names_itself_in_records_and_metrics"),
    ("listeners", "let_in"),
    ("listeners.*.bind", "it_listens_where_it_is_told"),
    ("listeners.*.tls", "a_listener_without_tls_serves_public_routes_only"),
    ("listeners.*.tls.certificates", "a_certificate_is_chosen_by_name_and_the_first_is_for_the_rest"),
    ("listeners.*.tls.certificates[].cert", "a_bad_change_leaves_the_old_generation"),
    ("listeners.*.tls.certificates[].key", "a_strangers_key_is_refused"),
    ("listeners.*.tls.client_auth", "kept_out"),
    ("listeners.*.tls.client_auth.ca", "another_ca_is_a_generation_and_counts_at_once"),
    ("listeners.*.tls.certificates[].folder", "certificates_come_from_a_folder_too"),
    ("listeners.*.tls.client_auth.crl", "a_revoked_certificate_is_refused_at_once"),
    ("listeners.*.tls.client_auth.crl_expired", "a_list_that_has_expired_counts_as_the_config_says"),
    ("listeners.*.tls.client_auth.handshake", "a_strict_handshake_demands_a_good_certificate"),
    ("listeners.*.tls.client_auth.max_certificate_lifetime", "a_certificate_may_not_live_too_long"),
    ("listeners.*.tls.client_auth.trust_shared_ca", "the_shared_ca_is_refused_unless_it_is_meant"),
    ("listeners.*.sources", "sources_say_who_may_connect"),
    ("listeners.*.proxy_protocol", "a_load_balancer_tells_the_clients_address"),
    ("listeners.*.proxy_protocol.from", "nobody_else_tells_an_address"),
    ("listeners.*.ports", "a_port_may_be_declared"),
    ("listeners.*.limits", "connections_are_counted"),
    ("listeners.*.limits.connections", "connections_are_counted"),
    ("listeners.*.limits.connections_per_address", "connections_are_counted"),
    ("listeners.*.limits.connections_per_workload", "connections_of_a_workload_are_counted"),
    ("listeners.*.limits.streams", "many_streams_share_a_connection"),
    ("listeners.*.limits.handshake_timeout", "a_handshake_has_its_time"),
    ("listeners.*.limits.head", "a_head_has_its_limits"),
    ("listeners.*.limits.headers", "a_head_has_its_limits"),
    ("listeners.*.limits.head_timeout", "a_head_has_its_time"),
    ("listeners.*.limits.idle_timeout", "an_idle_connection_ends"),
    ("listeners.*.limits.write_timeout", "who_does_not_read_is_not_served"),
    ("listeners.*.limits.body", "a_body_has_its_limit"),
    ("listeners.*.limits.body_min_rate", "only_the_pace_counts_and_not_the_length"),
    ("listeners.*.identity", "a_listener_demands_its_profile"),
    ("edge", "without_an_edge_no_token_counts"),
    ("edge.issuer", "the_edge_says_issuer_audience_and_lifetime"),
    ("edge.audience", "the_edge_says_issuer_audience_and_lifetime"),
    ("edge.token", "the_edge_says_issuer_audience_and_lifetime"),
    ("edge.token.max_lifetime", "the_edge_says_issuer_audience_and_lifetime"),
    ("edge.token.replay", "strict_replay_takes_a_get_once"),
    ("workloads", "kept_out"),
    ("workloads.*.id", "a_workload_is_its_id_and_its_keys"),
    ("workloads.*.keys", "a_workload_is_its_id_and_its_keys"),
    ("workloads.*.keys[].kid", "a_workload_is_its_id_and_its_keys"),
    ("workloads.*.keys[].key", "a_workload_is_its_id_and_its_keys"),
    ("listeners.*.client_address", "the_clients_address_is_the_one_that_the_config_believes"),
    ("listeners.*.host_from", "the_token_says_which_host_was_asked_for"),
    ("edge.max_key_age", "a_shared_secret_grows_too_old"),
    ("edge.token.body_digest", "a_digest_may_be_left_out_where_the_config_says_so"),
    ("edge.token.digest_body_max", "a_signed_body_is_held_up_to_a_limit"),
    ("workloads.*.may_assert", "facts_are_asserted_by_who_may"),
    ("workloads.*.keys[].secret", "a_shared_secret_proves_a_workload_where_it_is_asked_for"),
    ("workloads.*.keys[].created", "a_keys_age_is_the_older_of_what_is_said_and_what_was_seen"),
    ("workloads.*.keys[].state", "a_key_has_its_state"),
    ("routes[].body_digest", "a_route_may_demand_a_digest"),
    ("people", "a_user_must_be_proved"),
    ("people.*.issuer", "a_user_must_be_proved"),
    ("people.*.audience", "a_user_must_be_proved"),
    ("people.*.audience_claim", "tokens_differ"),
    ("people.*.header", "tokens_differ"),
    ("people.*.jwks", "other_keys_of_a_provider_count_at_once"),
    ("people.*.ca", "only_who_may_be_asked_is_asked"),
    ("people.*.allow_networks", "only_who_may_be_asked_is_asked"),
    ("people.*.mapping", "a_file_may_say_who_has_a_role"),
    ("people.*.mapping.file", "a_file_may_say_who_has_a_role"),
    ("people.*.mapping.person", "a_file_may_say_who_has_a_role"),
    ("people.*.mapping.group", "a_file_may_say_who_has_a_role"),
    ("roles.*.mapped", "a_file_may_say_who_has_a_role"),
    ("people.*.subject", "tokens_differ"),
    ("people.*.forward", "a_token_goes_on_where_the_config_says_so"),
    ("roles.*.people", "a_user_comes_through_a_workload"),
    ("roles.*.claim", "a_role_is_what_a_claim_says"),
    ("roles.*.has", "a_role_is_what_a_claim_says"),
    ("people.*.signer", "a_load_balancer_of_aws_vouches_for_users"),
    ("roles.*.priority", "who_comes_last_makes_room"),
    ("roles.*.through", "a_users_token_never_suffices"),
    ("roles", "a_role_is_its_workloads"),
    ("roles.*.workloads", "a_role_is_its_workloads"),
    ("routes", "a_route_matches_host_path_and_method"),
    ("routes[].name", "a_route_matches_host_path_and_method"),
    ("routes[].match", "a_route_matches_host_path_and_method"),
    ("routes[].match.host", "a_route_matches_host_path_and_method"),
    ("routes[].match.path", "a_route_matches_host_path_and_method"),
    ("routes[].match.methods", "a_route_matches_host_path_and_method"),
    ("routes[].identity", "a_route_may_demand_more_or_less_than_its_listener"),
    ("routes[].allow", "let_in"),
    ("routes[].limits", "a_rate_is_kept_for_each"),
    ("routes[].limits[].by", "callers_are_told_apart"),
    ("routes[].limits[].for", "a_limit_may_be_for_some"),
    ("routes[].limits[].rate", "a_rate_is_kept_for_each"),
    ("routes[].limits[].burst", "a_rate_is_kept_for_each"),
    ("routes[].limits[].concurrency", "so_many_in_flight_and_no_more"),
    ("routes[].limits[].bandwidth", "a_response_goes_at_its_pace"),
    ("routes[].limits[].body", "a_limit_has_a_body_of_its_own"),
    ("routes[].limits[].edge", "the_edge_may_say_that_it_is_too_much"),
    ("routes[].limits[].edge.claim", "the_edge_may_say_that_it_is_too_much"),
    ("routes[].limits[].edge.has", "the_edge_may_say_that_it_is_too_much"),
    ("pools.*.limits", "limits_of_a_pool_and_a_listener_count_on_every_route"),
    ("pools.*.limits[].by", "callers_are_told_apart"),
    ("pools.*.limits[].for", "a_limit_may_be_for_some"),
    ("pools.*.limits[].rate", "limits_of_a_pool_and_a_listener_count_on_every_route"),
    ("pools.*.limits[].burst", "limits_of_a_pool_and_a_listener_count_on_every_route"),
    ("pools.*.limits[].concurrency", "so_many_in_flight_and_no_more"),
    ("pools.*.limits[].bandwidth", "a_response_goes_at_its_pace"),
    ("pools.*.limits[].body", "a_limit_has_a_body_of_its_own"),
    ("pools.*.limits[].edge", "the_edge_may_say_that_it_is_too_much"),
    ("pools.*.limits[].edge.claim", "the_edge_may_say_that_it_is_too_much"),
    ("pools.*.limits[].edge.has", "the_edge_may_say_that_it_is_too_much"),
    ("listeners.*.limits.requests", "limits_of_a_pool_and_a_listener_count_on_every_route"),
    ("listeners.*.limits.requests[].by", "callers_are_told_apart"),
    ("listeners.*.limits.requests[].for", "a_limit_may_be_for_some"),
    ("listeners.*.limits.requests[].rate", "limits_of_a_pool_and_a_listener_count_on_every_route"),
    ("listeners.*.limits.requests[].burst", "limits_of_a_pool_and_a_listener_count_on_every_route"),
    ("listeners.*.limits.requests[].concurrency", "so_many_in_flight_and_no_more"),
    ("listeners.*.limits.requests[].bandwidth", "a_response_goes_at_its_pace"),
    ("listeners.*.limits.requests[].body", "a_limit_has_a_body_of_its_own"),
    ("listeners.*.limits.requests[].edge", "the_edge_may_say_that_it_is_too_much"),
    ("listeners.*.limits.requests[].edge.claim", "the_edge_may_say_that_it_is_too_much"),
    ("listeners.*.limits.requests[].edge.has", "the_edge_may_say_that_it_is_too_much"),
    ("revoked", "counts_no_more"),
    ("routes[].hide", "a_hidden_route_is_as_none"),
    ("routes[].max_age", "a_route_may_say_how_old_a_request_may_be"),
    ("routes[].outlives_token", "a_route_may_let_streams_outlive_the_token"),
    ("routes[].filters", "the_origin_is_told_who_asks"),
    ("routes[].filters[].set_headers", "the_origin_is_told_who_asks"),
    ("routes[].filters[].set_headers.request", "the_origin_is_told_who_asks"),
    ("routes[].filters[].set_headers.response", "the_origin_is_told_who_asks"),
    ("routes[].pool", "a_route_leads_to_its_pool"),
    ("pools", "a_route_leads_to_its_pool"),
    ("pools.*.balance", "each_way_of_balancing_asks_who_is_healthy"),
    ("pools.*.hash", "the_same_key_leads_to_the_same_server"),
    ("pools.*.hash.by", "the_same_key_leads_to_the_same_server"),
    ("pools.*.hash.load_max", "too_much_for_one_goes_to_another"),
    ("pools.*.backups_below", "backups_help_when_they_must"),
    ("pools.*.panic_below", "a_panic_asks_everybody"),
    ("pools.*.slow_start", "a_new_server_starts_slowly"),
    ("pools.*.servers", "servers_take_turns"),
    ("pools.*.servers[].name", "a_route_leads_to_its_pool"),
    ("pools.*.servers[].address", "a_route_leads_to_its_pool"),
    ("pools.*.servers[].weight", "servers_are_asked_as_their_weights_say"),
    ("pools.*.servers[].follows", "a_server_follows_anothers_health"),
    ("pools.*.servers[].backup", "backups_help_when_they_must"),
    ("pools.*.http", "trailers_pass_that_may"),
    ("pools.*.tls", "an_origin_is_who_its_certificate_says"),
    ("pools.*.tls.ca", "another_ca_vouches_for_nobody"),
    ("pools.*.tls.sni", "an_origin_is_who_its_certificate_says"),
    ("pools.*.tls.client", "an_origin_may_ask_who_we_are"),
    ("pools.*.tls.client.cert", "a_broken_file_of_a_pools_tls_is_named"),
    ("pools.*.tls.client.key", "a_broken_file_of_a_pools_tls_is_named"),
    ("pools.*.trailers", "trailers_pass_that_may"),
    ("pools.*.timeouts.tunnel", "a_quiet_tunnel_goes_on"),
    ("pools.*.timeouts", "connect_has_its_timeout"),
    ("pools.*.timeouts.connect", "connect_has_its_timeout"),
    ("pools.*.timeouts.between_bytes", "between_bytes_ends_a_response_that_stands_still"),
    ("pools.*.timeouts.idle", "an_idle_connection_to_a_server_ends"),
    ("pools.*.health", "a_pool_without_a_healthy_server_is_refused"),
    ("pools.*.health.http", "a_check_asks_for_its_path_and_host_and_expects_its_statuses"),
    ("pools.*.health.http.path", "a_check_asks_for_its_path_and_host_and_expects_its_statuses"),
    ("pools.*.health.http.host", "a_check_asks_for_its_path_and_host_and_expects_its_statuses"),
    ("pools.*.health.http.expect", "a_check_asks_for_its_path_and_host_and_expects_its_statuses"),
    ("pools.*.agent", "an_agent_says_how_servers_are"),
    ("pools.*.agent.port", "an_agent_says_how_servers_are"),
    ("pools.*.agent.send", "an_agent_says_how_servers_are"),
    ("pools.*.agent.interval", "an_agent_says_how_servers_are"),
    ("pools.*.agent.timeout", "an_agent_that_is_silent_changes_nothing"),
    ("pools.*.health.http.method", "a_check_sends_what_it_is_told"),
    ("pools.*.health.http.headers", "a_check_sends_what_it_is_told"),
    ("pools.*.health.http.body", "a_check_sends_what_it_is_told"),
    ("pools.*.health.http.contains", "a_checks_body_is_looked_at"),
    ("pools.*.servers_file", "a_file_of_servers_is_followed"),
    ("pools.*.servers[].srv", "a_service_tells_ports_weights_and_backups"),
    ("pools.*.servers[].max", "who_stays_keeps_his_name_and_what_is_known_of_him"),
    ("pools.*.servers[].max_requests", "a_server_may_take_less_than_the_others"),
    ("pools.*.sticky", "who_comes_again_finds_his_server"),
    ("pools.*.sticky.cookie", "the_cookie_is_safe_and_no_cache_keeps_it"),
    ("pools.*.sticky.keys", "one_key_replaces_the_other"),
    ("pools.*.sticky.keys[].secret", "a_broken_key_is_named"),
    ("pools.*.sticky.keys[].created", "the_age_of_a_key_is_told"),
    ("pools.*.sticky.lifetime", "a_cookie_is_renewed_and_grows_old"),
    ("pools.*.sticky.same_site", "other_sites_may_be_let_in"),
    ("pools.*.proxy_protocol", "a_connection_begins_with_the_clients_address"),
    ("pools.*.timeouts.lifetime", "a_connection_has_its_lifetime"),
    ("pools.*.max_connections_in_all", "a_server_has_only_so_many_connections"),
    ("pools.*.max_connections", "a_server_has_only_so_many_connections"),
    ("pools.*.check", "a_check_may_be_shared"),
    ("checks", "a_check_may_be_shared"),
    ("dns", "a_name_is_looked_up_again_and_again"),
    ("dns.resolvers", "a_resolver_that_is_silent_is_passed_over"),
    ("dns.timeout", "the_last_good_answer_counts"),
    ("dns.ttl_min", "an_answer_counts_for_its_time"),
    ("dns.ttl_max", "an_answer_counts_for_its_time"),
    ("pools.*.health.certificate_ends_in", "a_certificate_that_ends_soon_fails_its_check"),
    ("pools.*.health.http.matches", "a_checks_body_is_looked_at"),
    ("pools.*.health.tcp", "a_tcp_check"),
    ("pools.*.health.tcp.send", "a_tcp_check"),
    ("pools.*.health.tcp.expect", "a_tcp_check"),
    ("pools.*.health.grpc", "a_grpc_check"),
    ("pools.*.health.grpc.service", "a_grpc_check"),
    ("pools.*.health.fast_interval", "intervals_depend_on_how_things_are"),
    ("pools.*.health.down_interval", "intervals_depend_on_how_things_are"),
    ("pools.*.health.starts_healthy", "a_server_may_start_healthy"),
    ("pools.*.health.interval", "checks_come_at_their_interval_and_end_by_their_timeout"),
    ("pools.*.health.timeout", "checks_come_at_their_interval_and_end_by_their_timeout"),
    ("pools.*.health.rise", "rise_and_fall_count_results_in_a_row"),
    ("pools.*.health.fall", "rise_and_fall_count_results_in_a_row"),
    ("pools.*.max_requests", "a_limit_holds_and_the_others_wait"),
    ("pools.*.max_requests_in_all", "a_limit_holds_and_the_others_wait"),
    ("pools.*.queue", "who_waits_in_vain_is_told"),
    ("pools.*.queue.length", "who_waits_in_vain_is_told"),
    ("pools.*.queue.per_workload", "a_workload_waits_for_itself"),
    ("pools.*.queue.timeout", "who_waits_in_vain_is_told"),
    ("pools.*.retry", "what_fails_is_tried_again"),
    ("pools.*.retry.attempts", "each_attempt_is_at_another_server"),
    ("pools.*.retry.on", "what_fails_is_tried_again"),
    ("pools.*.retry.methods", "what_fails_is_tried_again"),
    ("pools.*.retry.budget", "retries_have_a_budget"),
    ("pools.*.outliers", "a_server_that_fails_is_ejected"),
    ("pools.*.outliers.consecutive_failures", "a_server_that_fails_is_ejected"),
    ("pools.*.outliers.error_rate", "a_server_that_fails_is_ejected"),
    ("pools.*.outliers.requests_min", "a_server_that_fails_is_ejected"),
    ("pools.*.outliers.slower_than", "a_slow_server_is_ejected"),
    ("pools.*.outliers.eject", "an_ejection_ends"),
    ("pools.*.outliers.eject_max", "each_ejection_is_longer_until_it_is_forgiven"),
    ("pools.*.outliers.ejected_max", "the_last_server_is_never_ejected"),
    ("pools.*.breaker", "a_pool_that_fails_is_left_alone"),
    ("pools.*.breaker.error_rate", "few_failures_are_fine"),
    ("pools.*.breaker.requests_min", "a_pool_that_fails_is_left_alone"),
    ("pools.*.breaker.pause", "a_pool_that_fails_is_left_alone"),
    ("audit", "while_the_log_cannot_be_written_nothing_is_served"),
    ("audit.file", "the_audit_log_is_the_named_file"),
    ("admin", "it_listens_where_it_is_told"),
    ("admin.http", "it_listens_where_it_is_told"),
    ("admin.https", "a_workload_that_may_reads_metrics_and_health_and_nothing_else"),
    ("admin.https.bind", "a_workload_that_may_reads_metrics_and_health_and_nothing_else"),
    ("admin.https.certificates", "a_workload_that_may_reads_metrics_and_health_and_nothing_else"),
    ("admin.https.certificates[].cert", "a_workload_that_may_reads_metrics_and_health_and_nothing_else"),
    ("admin.https.certificates[].key", "a_workload_that_may_reads_metrics_and_health_and_nothing_else"),
    ("admin.https.certificates[].folder", "a_scraper_that_was_revoked_reads_no_more_on_an_open_connection"),
    ("admin.https.ca", "nobody_else_hears_a_word"),
    ("admin.https.crl", "a_scraper_that_was_revoked_reads_no_more_on_an_open_connection"),
    ("admin.https.allow", "a_workload_that_may_reads_metrics_and_health_and_nothing_else"),
    ("log", "the_process_log_is_text_or_json"),
    ("log.level", "the_process_log_is_text_or_json"),
    ("log.format", "the_process_log_is_text_or_json"),
    ("admin.socket", "recent_tells_the_last_decisions"),
    ("history", "a_history_goes_on_counting"),
    ("history.dir", "a_history_goes_on_counting"),
    ("history.keep", "only_so_many_are_kept"),
];

#[test]
fn every_key_has_a_test_of_its_effect() {
    let schema: Value = config::schema(&filter::KINDS).into();
    let mut keys = BTreeSet::new();
    collect(&schema, &schema, "", &mut keys);
    let rows: BTreeSet<_> = EFFECTS.iter().map(|(key, _)| (*key).to_owned()).collect();
    let missing: Vec<_> = keys.difference(&rows).collect();
    let gone: Vec<_> = rows.difference(&keys).collect();
    assert!(missing.is_empty(), "keys without a test of their effect: {missing:#?}");
    assert!(gone.is_empty(), "rows for keys that do not exist: {gone:#?}");
}

#[test]
fn every_test_of_an_effect_exists() {
    let mut tests = String::new();
    for folder in ["src", "tests"] {
        read(Path::new(folder), &mut tests);
    }
    for (key, test) in EFFECTS {
        assert!(tests.contains(&format!("fn {test}(")), "{key}: there is no test {test}");
    }
}

fn collect(root: &Value, schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return collect(root, &root["$defs"][name], path, keys);
    }
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        keys.insert(path.clone());
        collect(root, value, &path, keys);
    }
    if schema["items"].is_object() {
        collect(root, &schema["items"], &format!("{path}[]"), keys);
    }
    if schema["additionalProperties"].is_object() {
        // What is shared by name is the same as what stands in a pool.
        let path = if path == "checks" { "pools.*.health".to_owned() } else { format!("{path}.*") };
        collect(root, &schema["additionalProperties"], &path, keys);
    }
}

fn read(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
