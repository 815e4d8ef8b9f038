//! `belay plugin check`

use crate::cli::Exit;
use crate::cli::terminal::Terminal;
use std::path::PathBuf;

/// Say what a plugin needs, what of it is not there, and what it makes of a request.
///
/// It is compiled, configured and tried with the limits that a plugin usually has; no request is sent anywhere. Ends with
/// 0 if it can be used, and with 65 if not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: belay plugin check plugins/quota/quota.wasm --config file:plugins/quota/example.json\n\
    and with a request of yours: belay plugin check my.wasm POST https://shop.example.com/orders -H 'x-tenant: shop' -d '{}'"
)]
pub(super) struct Args {
    /// The plugin's module.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The method of the request that it is tried with.
    #[arg(value_name = "METHOD", default_value = "GET")]
    pub(super) method: String,
    /// Its URL.
    #[arg(value_name = "URL", default_value = "https://example.com/")]
    pub(super) url: String,
    /// What the plugin is configured with: a text, or `file:` and a path.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) config: String,
    /// A header of the request, as curl takes it; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(super) headers: Vec<String>,
    /// The body of the request.
    #[arg(short, long, value_name = "TEXT")]
    pub(super) data: Option<String>,
    /// Print it as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(not(feature = "wasm"))]
pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let message = "this build of Belay knows no WebAssembly";
    if args.json {
        terminal.say_json(&serde_json::json!({ "ok": false, "error": message }));
    } else {
        let hint = "build it with `--features wasm`, or take a package".to_owned();
        terminal.show(&[crate::config::Finding::of_file(&args.file, message, Some(hint))]);
    }
    Exit::Unavailable
}

#[cfg(feature = "wasm")]
pub(super) use tried::main;

#[cfg(feature = "wasm")]
mod tried {
    use super::{Args, Exit, Terminal};
    use crate::config::Finding;
    use crate::filter::trial::{Made, Sample, Trial, Untried};
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
    use serde_json::{Value, json};
    use std::{fs, time::Duration};

    /// How often it is tried, to see what it costs.
    const RUNS: usize = 1000;

    pub(in crate::cli::plugin) fn main(args: &Args, terminal: &Terminal) -> Exit {
        let sample = match sample(args) {
            Ok(sample) => sample,
            Err(message) => return wrong(args, terminal, (&message, Vec::new()), Exit::Usage),
        };
        let (module, config) = match read(args) {
            Ok(read) => read,
            Err(message) => return wrong(args, terminal, (&message, Vec::new()), Exit::BadData),
        };
        let name = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let trial = match Trial::new(module, &name, config, sample) {
            Ok(trial) => trial,
            Err(Untried::Imports(names)) => {
                return wrong(args, terminal, ("it imports what nobody provides", names), Exit::BadData);
            }
            Err(fault) => return wrong(args, terminal, (&fault.to_string(), Vec::new()), Exit::BadData),
        };
        let (made, first) = trial.run();
        let mut times: Vec<_> = (0..RUNS).map(|_| trial.run().1).collect();
        times.sort_unstable();
        let middle = times.get(RUNS / 2).copied().unwrap_or(first);
        if args.json {
            terminal.say_json(&told(&trial, &made, (first, middle)));
        } else {
            terminal.say(&shown(args, &trial, &made, (first, middle)));
        }
        if matches!(made, Made::Refused(_)) { Exit::Failed } else { Exit::Ok }
    }

    fn wrong(args: &Args, terminal: &Terminal, (message, names): (&str, Vec<String>), exit: Exit) -> Exit {
        if args.json {
            terminal.say_json(&json!({ "ok": false, "error": message, "unknown": names }));
        } else {
            let hint = (!names.is_empty()).then(|| format!("without {} it could run", names.join(", ")));
            terminal.show(&[Finding::of_file(&args.file, message, hint)]);
        }
        exit
    }

    fn read(args: &Args) -> Result<(Bytes, Bytes), String> {
        let of = |path: &std::path::Path| {
            fs::read(path).map(Bytes::from).map_err(|error| format!("{} cannot be read: {error}", path.display()))
        };
        let config = match args.config.strip_prefix("file:") {
            Some(path) => of(std::path::Path::new(path))?,
            None => Bytes::from(args.config.clone()),
        };
        Ok((of(&args.file)?, config))
    }

    fn sample(args: &Args) -> Result<Sample, String> {
        let none = |what: &str, text: &str| format!("`{text}` is no {what}");
        let method = Method::from_bytes(args.method.as_bytes()).map_err(|_none| none("method", &args.method))?;
        let url: Uri = args.url.parse().map_err(|_none| none("URL", &args.url))?;
        let host = url.authority().ok_or_else(|| none("URL with a host", &args.url))?.to_string();
        let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let mut headers = HeaderMap::new();
        for text in &args.headers {
            let (name, value) = text.split_once(':').ok_or_else(|| none("header", text))?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_none| none("header", text))?;
            headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_none| none("header", text))?);
        }
        let body = args.data.clone().map(Bytes::from);
        if let Some(body) = &body {
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Ok(Sample { method, host, target, headers, body })
    }

    fn told(trial: &Trial, made: &Made, (first, middle): (Duration, Duration)) -> Value {
        let made = match made {
            Made::Goes(headers) => json!({ "goes": true, "headers": headers }),
            Made::Answered(status, body) => {
                json!({ "status": status.as_u16(), "body": String::from_utf8_lossy(body) })
            }
            Made::Waits => json!({ "waits": true }),
            Made::Refused(refusal) => json!({ "refused": refusal.facts().code }),
        };
        json!({
            "ok": made.get("refused").is_none(),
            "known": trial.known(),
            "unimplemented": trial.unimplemented(),
            "started_ns": trial.started.as_nanos(),
            "request": made,
            "first_ns": first.as_nanos(),
            "median_ns": middle.as_nanos(),
        })
    }

    fn shown(args: &Args, trial: &Trial, made: &Made, (first, middle): (Duration, Duration)) -> String {
        let list = |names: &[String]| names.iter().map(|name| format!("  {name}\n")).collect::<String>();
        let count = trial.known().len();
        let mut text = format!("{} can be used.\nIt imports {count} functions that are there:\n", args.file.display());
        text.push_str(&list(trial.known()));
        if !trial.unimplemented().is_empty() {
            text.push_str("and these, which answer that they are not there:\n");
            text.push_str(&list(trial.unimplemented()));
        }
        text.push_str(&format!("Compiled, started and configured in {:.1?}.\n", trial.started));
        text.push_str(&format!("{} {}: ", args.method, args.url));
        text.push_str(&match made {
            Made::Goes(headers) => {
                let headers = headers.iter().map(|(name, value)| format!("  {name}: {value}\n"));
                format!("goes on, with\n{}", headers.collect::<String>())
            }
            Made::Answered(status, body) => {
                format!("is answered {status}\n  {}\n", String::from_utf8_lossy(body).trim_end().escape_debug())
            }
            Made::Waits => "waits for an answer to a call of the plugin's, which nobody gives here\n".to_owned(),
            Made::Refused(refusal) => format!("is refused: {}\n", refusal.facts().explain),
        });
        text.push_str(&format!("The first time took {first:.1?}, the middle of {RUNS} more {middle:.1?}."));
        text
    }
}
