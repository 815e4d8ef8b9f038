//! URLs, as people write them.

use super::{Path, host_of};
use crate::refusal::Refusal;
use http::Uri;

/// Host and path of a URL, as they are judged.
///
/// # Errors
/// Why it has none, in words.
pub fn place_of(url: &str) -> Result<(String, String), String> {
    let strange = || format!("`{url}` is no URL such as https://shop.example.com/orders/7");
    let uri: Uri = url.parse().map_err(|_no_url| strange())?;
    let authority = uri.authority().ok_or_else(strange)?;
    let refused = |refusal: Refusal| refusal.facts().explain.to_owned();
    let host = host_of(authority.as_str()).map_err(refused)?.to_ascii_lowercase();
    let path = Path::read(uri.path()).map_err(refused)?;
    Ok((host, path.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("https://Shop.Example.com:8443/orders/7?x=1", Ok(("shop.example.com", "/orders/7")); "host and path, as they are judged")]
    #[test_case("https://shop.example.com", Ok(("shop.example.com", "/")); "no path")]
    #[test_case("https://shop.example.com/a/../b", Err("Servers could read the path in different ways, so it is not forwarded."); "an ambiguous path")]
    #[test_case("/orders/7", Err("`/orders/7` is no URL such as https://shop.example.com/orders/7"); "no host")]
    fn places(url: &str, expected: Result<(&str, &str), &str>) {
        let expected = expected.map(|(host, path)| (host.to_owned(), path.to_owned())).map_err(str::to_owned);
        assert_eq!(place_of(url), expected);
    }
}
