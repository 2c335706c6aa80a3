//! Lists of container images, one on a line, as sealer has them: `manifests/imageList`, and files that flags name.

use std::collections::BTreeSet;

use gantry_model::ImageReference;

use crate::clusterfile::Mistake;

/// Longest list that is read, in bytes.
pub const MAX_LEN: u64 = 1 << 20;

/// The images of a list with the line each stands on. Empty lines and what follows a `#` count for nothing.
///
/// # Errors
/// What is no name of an image, each with its place.
pub fn parse(text: &str) -> Result<Vec<(ImageReference, usize)>, Vec<Mistake>> {
    let (mut images, mut mistakes) = (Vec::new(), Vec::new());
    let mut start = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let word = word(line);
        if !word.is_empty() {
            match word.parse() {
                Ok(image) => images.push((image, number + 1)),
                Err(error) => {
                    let at = start + line.find(word).unwrap_or(0);
                    let error: gantry_model::ReferenceError = error;
                    let mistake = Mistake::new(at..at + word.len(), error.to_string());
                    mistakes.push(mistake.help("a line names one image: [REGISTRY/]PATH[:TAG][@DIGEST]"));
                }
            }
        }
        start += line.len();
    }
    if mistakes.is_empty() {
        Ok(images)
    } else {
        Err(mistakes)
    }
}

/// What a line names: without its comment, and what people put around names.
fn word(line: &str) -> &str {
    let line = line.trim_start_matches('\u{feff}').trim_start();
    if line.starts_with('#') {
        return "";
    }
    // A '#' within a word is no comment, as in YAML.
    let end = line.find(" #").or_else(|| line.find("\t#")).unwrap_or(line.len());
    line[..end].trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ','))
}

/// Container images that are not asked for, by the exact name that a file gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoredImages(BTreeSet<ImageReference>);

impl IgnoredImages {
    /// Whether `image` is one of them.
    #[must_use]
    pub fn contains(&self, image: &ImageReference) -> bool {
        self.0.contains(image)
    }
}

impl FromIterator<ImageReference> for IgnoredImages {
    fn from_iter<I: IntoIterator<Item = ImageReference>>(images: I) -> Self {
        Self(images.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_quotes_and_empty_lines_are_no_names() {
        let text = "\u{feff}# all of them\n\nnginx:1.25  # the web server\n 'registry.k8s.io/pause:3.9',\r\n";
        let images = parse(text).unwrap();
        let named: Vec<(String, usize)> = images
            .iter()
            .map(|(image, line)| (image.to_string(), *line))
            .collect();
        assert_eq!(
            named,
            [
                ("nginx:1.25".to_owned(), 3),
                ("registry.k8s.io/pause:3.9".to_owned(), 4)
            ]
        );
    }

    #[test]
    fn what_is_no_name_is_told_with_its_place() {
        let text = "nginx:1.25\nNGINX latest\nbusybox\n";
        let mistakes = parse(text).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert_eq!(&text[mistakes[0].span.clone()], "NGINX latest");
    }
}
