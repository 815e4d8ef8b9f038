//! Amounts with their units: text that is read later, so that a fault can name its place.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

macro_rules! amounts {
    ($($(#[$doc:meta])* $name:ident = $schema:literal, $pattern:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $schema.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    )*};
}

amounts! {
    /// A time with its unit: `250ms`, `2s`, `5m`, `1h` or `90d`.
    DurationText = "Duration", "^[0-9]+(ms|s|m|h|d)$";
    /// An amount of bytes with its unit: `512B`, `32KiB`, `10MiB` or `1GiB`.
    SizeText = "Size", "^[0-9]+(B|KiB|MiB|GiB|TiB)$";
    /// An amount of bytes each second: `1KiB/s`.
    RateText = "Rate", "^[0-9]+(B|KiB|MiB|GiB|TiB)/s$";
    /// A share: `50%`.
    ShareText = "Share", "^[0-9]+%$";
}
