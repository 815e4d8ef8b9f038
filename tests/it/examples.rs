//! Every example config is one.

use belay::{config, filter};
use std::{fs, path::PathBuf};

fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir("conf").unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn every_example_is_a_config_without_a_finding() {
    let examples = examples();
    assert!(examples.len() >= 2, "{examples:?}");
    for path in examples {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema="), "{}", path.display());
        let checked = config::read(&path, &text, filter::KINDS);
        assert!(checked.findings.is_empty(), "{}", checked.findings[0]);
    }
}

/// The configs that the documents show whole: fenced YAML that begins with the version.
#[test]
fn every_config_in_the_documents_is_one() {
    let mut found = 0;
    for page in ["README.md", "docs/architecture.md", "plugins/edge-worker/README.md"] {
        let text = fs::read_to_string(page).unwrap();
        for fence in text.split("```yaml\n").skip(1) {
            let yaml = fence.split("```").next().unwrap();
            if yaml.lines().any(|line| line.starts_with("version:")) {
                let checked = config::read(&PathBuf::from(page), yaml, filter::KINDS);
                assert!(checked.findings.is_empty(), "{page}: {}", checked.findings[0]);
                found += 1;
            }
        }
    }
    assert!(found > 0, "the README shows a whole config");
}
