//! This module owns [`Applications`]: what an image launches, and the applications it may launch: those of its base, and
//! those of its Kubefile, whose types their files tell.

use std::collections::BTreeSet;

use gantry_store::extension::shell_word;
use gantry_store::{Application, Extension, Image, LaunchItem, StoreError};

use crate::clusterfile::spelling::closest;
use crate::clusterfile::{Mistake, tree::Span};

use super::context::{BuildContext, Found};
use super::kubefile::{AppRole, Command};
use super::scope::Scope;

/// Longest name of an application: that of a release of helm.
const MAX_NAME_LEN: usize = 53;
/// What makes a folder a chart.
const CHART: [&str; 3] = ["Chart.yaml", "values.yaml", "templates"];

/// The applications, and what is launched.
#[derive(Debug, Default)]
pub(super) struct Applications {
    extension: Extension,
    /// Those of the Kubefile: name, place, and which COPY brings the files.
    own: Vec<(String, Span, usize)>,
    /// What is launched, in order; with its place where the Kubefile says it.
    launched: Vec<(LaunchItem, Option<Span>)>,
}

impl Applications {
    /// What an image on top of `base` starts with.
    ///
    /// # Errors
    /// When what the base says about itself cannot be read.
    pub(super) fn of_base(base: &Image) -> Result<Self, StoreError> {
        let inherited = |item| (item, None);
        let Some(extension) = base.extension()? else {
            let lines = base.commands()?.into_iter().map(LaunchItem::Line);
            return Ok(Self {
                launched: lines.map(inherited).collect(),
                ..Self::default()
            });
        };
        let launched = extension.launched().into_iter().map(inherited).collect();
        let extension = Extension {
            build_client: Default::default(),
            ..extension
        };
        Ok(Self {
            extension,
            own: Vec::new(),
            launched,
        })
    }

    /// APP, CNI, CSI: the files come with the `copy`th COPY. Gives the application's folder, and whether the base has an
    /// application in it.
    pub(super) fn register(
        &mut self,
        name: &str,
        span: &Span,
        copy: usize,
        scope: &mut Scope<'_>,
    ) -> Option<(String, bool)> {
        let legal = name.len() <= MAX_NAME_LEN
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !legal {
            let mistake = Mistake::new(
                span.clone(),
                format!("{name:?} cannot be the name of an application"),
            );
            scope.mistake(mistake.help(format!(
                "a name is letters, digits, '-', '_' and '.', {MAX_NAME_LEN} at most; it is the name of a folder"
            )));
            return None;
        }
        if let Some((_, first, _)) = self.own.iter().find(|(known, ..)| known == name) {
            let mistake = Mistake::new(span.clone(), format!("a second application {name}"));
            scope.mistake(
                mistake
                    .beside(first.clone(), "the first one")
                    .help("give it another name"),
            );
            return None;
        }
        self.own.push((name.to_owned(), span.clone(), copy));
        let application = Application::new(name);
        let folder = application.folder();
        let replaced = self.application(name).map(|known| *known = application.clone());
        if replaced.is_none() {
            self.extension.applications.push(application);
        }
        Some((folder, replaced.is_some()))
    }

    /// The application `name`, which APPCMDS or APPENV at `span` speaks of.
    pub(super) fn known(
        &mut self,
        name: &str,
        span: &Span,
        scope: &mut Scope<'_>,
    ) -> Option<&mut Application> {
        if self.application(name).is_none() {
            if scope.is_complete() {
                scope.mistake(self.unknown(name, span));
            }
            return None;
        }
        self.application(name)
    }

    fn application(&mut self, name: &str) -> Option<&mut Application> {
        self.extension
            .applications
            .iter_mut()
            .find(|application| application.name == name)
    }

    fn unknown(&self, name: &str, span: &Span) -> Mistake {
        let mistake = Mistake::new(span.clone(), format!("there is no application {name:?}"));
        let names = self.extension.applications.iter().map(|one| one.name.as_str());
        match closest(name, names) {
            Some(near) => mistake.help(format!("did you mean {near}?")),
            None => mistake.help("say before what it is: `APP NAME local://PATH…`"),
        }
    }

    /// CMD: one more line.
    pub(super) fn add_line(&mut self, command: &Command, span: &Span, scope: &Scope<'_>) {
        let line = match command {
            Command::Shell(text) => scope.fill_in_args(text),
            Command::Arguments(arguments) => shell_line(arguments),
        };
        self.launched.push((LaunchItem::Line(line), Some(span.clone())));
    }

    /// LAUNCH, CMDS: these, and nothing of the base.
    pub(super) fn launch(&mut self, items: impl IntoIterator<Item = (LaunchItem, Span)>) {
        self.launched = items.into_iter().map(|(item, span)| (item, Some(span))).collect();
    }

    /// Looks into the files of the Kubefile's applications, `found` by the COPYs; what cannot be launched is a mistake.
    pub(super) fn settle(
        &mut self,
        found: &[Vec<Found>],
        context: &BuildContext,
        complete: bool,
        mistakes: &mut Vec<Mistake>,
    ) {
        for (name, span, copy) in self.own.clone() {
            let found = found.get(copy).map_or(&[][..], Vec::as_slice);
            match Contents::of(found, context) {
                Ok(contents) => {
                    if let Some(application) = self.application(&name) {
                        application.kind = contents.kind().to_owned();
                        application.files = contents.launched();
                    }
                }
                Err(message) => mistakes.push(Mistake::new(span, message)),
            }
        }
        for (item, span) in &self.launched {
            let (LaunchItem::Application(name), Some(span)) = (item, span) else {
                continue;
            };
            let application = self.extension.applications.iter().find(|one| one.name == *name);
            match application {
                None if complete => mistakes.push(self.unknown(name, span)),
                Some(application) if application.line().is_empty() && mistakes.is_empty() => {
                    let message = format!(
                        "nothing says how {name} is launched: it is no chart, and not all of its files are YAML or scripts"
                    );
                    let mistake = Mistake::new(span.clone(), message);
                    mistakes.push(mistake.help(format!("add `APPCMDS {name} [\"COMMAND\"]`")));
                }
                _ => {}
            }
        }
    }

    /// What the image says about itself.
    ///
    /// # Errors
    /// When the base launches an application that it does not have.
    pub(super) fn extension(&self) -> Result<Extension, String> {
        let mut extension = self.extension.clone();
        let items: Vec<LaunchItem> = self.launched.iter().map(|(item, _)| item.clone()).collect();
        extension.set_launched(&items)?;
        Ok(extension)
    }
}

/// The label that tells what an application is for.
pub(super) fn role_label(role: AppRole, name: &str) -> Option<String> {
    match role {
        AppRole::Any => None,
        AppRole::Cni => Some(format!("cluster.alpha.sealer.io/kube-cni-{name}")),
        AppRole::Csi => Some(format!("cluster.alpha.sealer.io/kube-csi-{name}")),
    }
}

/// The arguments as one line that a shell takes apart into the same arguments.
pub(super) fn shell_line(arguments: &[String]) -> String {
    let words: Vec<String> = arguments.iter().map(|argument| shell_word(argument)).collect();
    words.join(" ")
}

/// The files of an application, by their paths in its folder.
#[derive(Debug, Default)]
struct Contents {
    /// Of each source, in order.
    sources: Vec<Vec<String>>,
    /// Names at the top.
    top: BTreeSet<String>,
}

impl Contents {
    fn of(found: &[Found], context: &BuildContext) -> Result<Self, String> {
        let mut contents = Self::default();
        for one in found {
            let files: Vec<String> = context.files(one)?.into_iter().map(when_launched).collect();
            let top = files.iter().filter_map(|path| path.split('/').next());
            contents.top.extend(top.map(str::to_owned));
            contents.sources.push(files);
        }
        Ok(contents)
    }

    fn kind(&self) -> &'static str {
        let all = |endings: &[&str]| {
            let mut files = self.sources.iter().flatten().peekable();
            let matches = |file: &String| {
                let lower = file.to_ascii_lowercase();
                endings.iter().any(|ending| lower.ends_with(ending))
            };
            files.peek().is_some() && files.all(matches)
        };
        if CHART.iter().all(|name| self.top.contains(*name)) {
            "helm"
        } else if all(&[".sh"]) {
            "shell"
        } else if all(&[".yaml", ".yml"]) {
            "kube"
        } else {
            ""
        }
    }

    /// Files that are applied or run: all YAML, the scripts of the first source.
    fn launched(&self) -> Vec<String> {
        match self.kind() {
            "shell" => self.sources.first().cloned().unwrap_or_default(),
            "kube" => self.sources.concat(),
            _ => Vec::new(),
        }
    }
}

/// What `file` of an application is called when it is launched: what a template makes is there by then. Hosts make no
/// scripts.
fn when_launched(file: String) -> String {
    let made = gantry_template::target(&file).filter(|made| !made.to_ascii_lowercase().ends_with(".sh"));
    made.map(str::to_owned).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(sources: &[&[&str]]) -> &'static str {
        let contents = Contents {
            sources: sources
                .iter()
                .map(|files| files.iter().map(|file| (*file).to_owned()).collect())
                .collect(),
            top: sources
                .iter()
                .flat_map(|files| files.iter())
                .filter_map(|file| file.split('/').next())
                .map(str::to_owned)
                .collect(),
        };
        contents.kind()
    }

    #[test]
    fn files_tell_what_an_application_is() {
        let chart: &[&str] = &["Chart.yaml", "templates/deployment.yaml", "values.yaml"];
        assert_eq!(kind(&[chart]), "helm");
        assert_eq!(
            kind(&[&["Chart.yaml"], &["values.yaml"], &["templates/x.tpl"]]),
            "helm"
        );
        assert_eq!(kind(&[&["a/Chart.yaml", "b/x"]]), "");
        assert_eq!(kind(&[&["a.yaml", "sub/b.YML"]]), "kube");
        assert_eq!(kind(&[&["up.sh"], &["down.sh"]]), "shell");
        assert_eq!(kind(&[&["up.sh", "a.yaml"]]), "");
        assert_eq!(kind(&[]), "");
    }

    #[test]
    fn arguments_become_a_line_with_the_same_arguments() {
        let arguments = ["kubectl", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(shell_line(&arguments), r"kubectl 'a b' 'it'\''s' ''");
    }
}
