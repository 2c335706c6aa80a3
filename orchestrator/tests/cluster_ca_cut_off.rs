//! A cluster's CA is replaced, or taken out again, and cut off inside of steps: there is always a way on, and it is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry::exit::Failure;
use gantry::inventory::ClusterInventory;
use gantry::plan::cluster_ca::{Replacement, Stage};
use gantry::plan::{Plan, PlannedStep, check};
use gantry_model::{
    CertificateKeeper, CertificateRecord, ClusterCa, ClusterName, Digest, StepAction, StepOutcome,
};

use planning::*;

const OLD: &str = "old\n";

fn ca(pem: &str, not_before: i64) -> ClusterCa {
    ClusterCa {
        pem: pem.into(),
        fingerprint: Digest::of(pem.as_bytes()),
        not_before,
        not_after: not_before + 1000,
    }
}

/// What of a cluster's CAs is on a host, as its agent leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    /// `ca.crt`.
    trusted: Vec<String>,
    /// Whose key is in `ca.key`; none on workers.
    key: Option<String>,
    /// `next-ca`.
    next: Option<String>,
    /// Of which CA kubelet's certificate is.
    kubelet: String,
    /// What runs has read other files than are here now.
    is_stale: bool,
}

/// What an agent says when it changes nothing, in short.
const STILL_SIGNS: &str = "the CA that signs here is not among them";
const KUBELET_HAS_NOT_MOVED: &str = "kubelet would be refused: `gantry delete`, and `gantry join`";
const SIGNS: &str = "it signs on this host already";
const NO_KEY: &str = "there is no key";
const REFUSED: &str = "it does not trust who asks";

/// How many changes are left until a step is cut off.
struct Left(usize);

impl Left {
    /// Makes a change, unless it is cut off before.
    fn change(&mut self, make: impl FnOnce()) -> bool {
        let goes_on = self.0 > 0;
        if goes_on {
            self.0 -= 1;
            make();
        }
        goes_on
    }
}

/// Whether a step came to its end, or was cut off; or why it was not begun.
type Went = Result<bool, &'static str>;

impl Files {
    /// The one that was first stays it, where it stays.
    fn trust(&mut self, wanted: &[String], left: &mut Left) -> Went {
        let first = self.trusted[0].clone();
        if self.key.is_some() && !wanted.contains(&first) {
            return Err(STILL_SIGNS);
        }
        if wanted.len() == 1 && self.kubelet != wanted[0] {
            return Err(KUBELET_HAS_NOT_MOVED);
        }
        let write = || {
            self.is_stale |= self.trusted != wanted;
            self.trusted = wanted.to_vec();
            self.trusted.sort_by_key(|pem| *pem != first);
        };
        Ok(left.change(write) && left.change(|| self.is_stale = false))
    }

    /// By its own key, or by that of a host which trusts these.
    fn sign(&mut self, new: &str, from: Option<&[String]>, left: &mut Left) -> Went {
        let has_key = [&self.next, &self.key].contains(&&Some(new.to_owned()));
        match from {
            _ if has_key => {}
            None => return Err(NO_KEY),
            Some(trusted) if !trusted.contains(self.key.as_ref().unwrap()) => return Err(REFUSED),
            Some(_) if !left.change(|| self.next = Some(new.into())) => return Ok(false),
            Some(_) => {}
        }
        let taken_up = left.change(|| self.key = Some(new.into()))
            && left.change(|| {
                self.trusted.retain(|pem| pem != new);
                self.trusted.insert(0, new.into());
            })
            && left.change(|| self.next = None);
        Ok(taken_up)
    }

    fn renew_kubelet(&mut self, new: &str, left: &mut Left) -> Went {
        assert!(self.trusted.iter().any(|pem| pem == new));
        Ok(left.change(|| self.kubelet = new.into()))
    }
}

/// A cluster that a test replaces the CA of: journals and files.
#[derive(Clone)]
struct Site {
    inventory: ClusterInventory,
    hosts: Vec<IpAddr>,
    masters: usize,
    files: BTreeMap<IpAddr, Files>,
    /// What the cluster was told last.
    told: Vec<String>,
    /// How many CAs were made.
    made: i64,
    /// The one that signed before.
    before: String,
    /// A CA that took the place of another is replaced, too.
    again: bool,
    /// The host whose agent refused a step last, and its words.
    refusal: Option<(IpAddr, &'static str)>,
}

/// Where a step of a host is cut off: after so many of the changes that it consists of.
#[derive(Debug, Clone)]
struct Cut {
    host: IpAddr,
    title: String,
    changes: usize,
}

impl Site {
    fn new(masters: u8, workers: u8) -> Self {
        let (clusterfile, image) = kubernetes(masters, workers, "");
        let mut inventory = fresh(&clusterfile);
        execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
        let hosts: Vec<IpAddr> = clusterfile.hosts.iter().map(|host| host.address).collect();
        let masters = usize::from(masters);
        let mut files = BTreeMap::new();
        for (index, host) in hosts.iter().enumerate() {
            let is_master = index < masters;
            if is_master {
                let found = &mut on(&mut inventory, &host.to_string()).inventory;
                found.certificates.push(CertificateRecord {
                    file: "/etc/kubernetes/pki/apiserver.crt".into(),
                    subject: "kube-apiserver".into(),
                    not_after: 1 << 40,
                    keeper: CertificateKeeper::Kubeadm,
                });
            }
            files.insert(
                *host,
                Files {
                    trusted: vec![OLD.into()],
                    key: is_master.then(|| OLD.into()),
                    next: None,
                    kubelet: OLD.into(),
                    is_stale: false,
                },
            );
        }
        let mut site = Self {
            inventory,
            hosts,
            masters,
            files,
            told: vec![OLD.into()],
            made: 0,
            before: OLD.into(),
            again: false,
            refusal: None,
        };
        site.look();
        site
    }

    /// One whose CA took the place of another before.
    fn replaced_before(masters: u8, workers: u8) -> Self {
        let mut site = Self::new(masters, workers);
        while let Some(plan) = site.forward().unwrap() {
            assert!(site.execute(&plan, None));
        }
        site.before = site.newest();
        site.again = true;
        site
    }

    fn is_as_before(&self) -> bool {
        self.files
            .values()
            .all(|files| files.trusted == [self.before.clone()])
    }

    fn newest(&self) -> String {
        format!("made {}\n", self.made)
    }

    /// What the agents report of the files: the CA first whose key signs.
    fn look(&mut self) {
        for (host, files) in &self.files {
            let mut trusted = files.trusted.clone();
            if let Some(key) = &files.key {
                trusted.retain(|pem| pem != key);
                trusted.insert(0, key.clone());
            }
            let found = &mut on(&mut self.inventory, &host.to_string()).inventory.cluster_cas;
            found.trusted = trusted.iter().map(|pem| known(pem)).collect();
            found.next = files.next.as_deref().map(known);
        }
    }

    fn replacement<T>(&self, ask: impl FnOnce(Replacement<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let cluster: ClusterName = "demo".parse()?;
        let (hosts, masters) = (&self.hosts, &self.hosts[..self.masters]);
        ask(Replacement::new(
            &cluster,
            hosts,
            masters,
            &self.inventory,
            NonZeroUsize::MIN,
        )?)
    }

    /// The next plan of a replacement; none at its end.
    fn forward(&self) -> anyhow::Result<Option<Plan>> {
        Ok(match self.replacement(|replacement| replacement.stage())? {
            Stage::Make(plan) | Stage::Trust(plan) | Stage::Drop(plan) => Some(plan),
            Stage::Sign { plan, .. } => Some(plan),
            Stage::Wait => panic!("no host is off"),
            Stage::Replaced { again, .. } if self.again && self.is_as_before() => Some(*again),
            Stage::Replaced { .. } => None,
        })
    }

    /// The plan that takes the new CA out again; none where nothing is left of it.
    fn back(&self) -> anyhow::Result<Option<Plan>> {
        self.replacement(|replacement| replacement.withdrawal())
    }

    /// Executes `plan`; whether it came to its end. It stops where it is cut off, and where an agent refuses.
    fn execute(&mut self, plan: &Plan, cut: Option<&Cut>) -> bool {
        check::check(plan).unwrap();
        for step in plan.steps().filter(|step| step.is_to_do()) {
            let here = |cut: &&Cut| cut.host == step.host && cut.title == step.title;
            let changes = cut.filter(here).map_or(usize::MAX, |cut| cut.changes);
            let outcome = match self.perform(step, changes) {
                Ok(true) => None,
                Ok(false) => Some(StepOutcome::Unknown),
                Err(words) => {
                    self.refusal = Some((step.host, words));
                    Some(StepOutcome::Failed(words.into()))
                }
            };
            let mut alone = plan.clone();
            for wave in &mut alone.waves {
                wave.steps
                    .retain(|other| other.id == step.id && other.host == step.host);
            }
            let went_well = outcome.is_none();
            execute(&alone, &mut self.inventory, |_, _| outcome.clone());
            self.look();
            if !went_well {
                return false;
            }
        }
        true
    }

    /// The changes that a step consists of, in the agent's order, until it is cut off.
    fn perform(&mut self, step: &PlannedStep, changes: usize) -> Went {
        let new = self.newest();
        let trusted_by = |host: IpAddr| self.files[&host].trusted.clone();
        let from = match &step.step.action {
            StepAction::SignByClusterCa { from, .. } => from.map(trusted_by),
            _ => None,
        };
        let files = self.files.get_mut(&step.host).unwrap();
        let mut left = Left(changes);
        if let (StepAction::WithdrawClusterCa { ca, .. }, Some(key)) = (&step.step.action, &files.key)
            && known(key).fingerprint == *ca
        {
            return Err(SIGNS);
        }
        let all = match &step.step.action {
            StepAction::MakeClusterCa { .. } => left.change(|| {
                self.made += 1;
                files.next = Some(format!("made {}\n", self.made));
            }),
            StepAction::TrustClusterCas { authorities, .. } => files.trust(authorities, &mut left)?,
            StepAction::WithdrawClusterCa { authorities, .. } => {
                left.change(|| files.next = None) && files.trust(authorities, &mut left)?
            }
            StepAction::PublishClusterCas { authorities, .. } => {
                left.change(|| self.told.clone_from(authorities))
            }
            StepAction::SignByClusterCa { ca, .. } => {
                assert_eq!(known(&new).fingerprint, *ca);
                files.sign(&new, from.as_deref(), &mut left)?
            }
            StepAction::RenewKubeletCertificate { ca, .. } => {
                assert_eq!(known(&new).fingerprint, *ca);
                files.renew_kubelet(&new, &mut left)?
            }
            _ => true,
        };
        // Power may be cut right before the end is written down, too.
        Ok(all && left.change(|| ()))
    }

    /// As `gantry delete` does.
    fn delete(&mut self, host: IpAddr, story: &str) {
        let at = self.hosts.iter().position(|one| *one == host).unwrap();
        self.hosts.remove(at);
        self.files.remove(&host);
        self.inventory.hosts.remove(&host);
        if at < self.masters {
            self.masters -= 1;
        }
        assert!(self.masters > 0, "{story}: the last control plane cannot leave");
    }

    /// Goes whatever way on is told, taking hosts out where that is told, until there is nothing to do.
    fn lead_out_of_anything(&mut self, story: &str) {
        let mut is_forward = true;
        for _ in 0..20 {
            let plan = if is_forward { self.forward() } else { self.back() };
            match plan {
                Ok(None) if is_forward => return self.is_whole(story),
                // Another one can be made by then.
                Ok(None) => is_forward = true,
                Ok(Some(plan)) if is_forward && self.is_whole_again(&plan) => return self.is_whole(story),
                Ok(Some(plan)) => {
                    if !self.execute(&plan, None) {
                        let (host, words) = self.refusal.take().unwrap();
                        assert!(words.contains("gantry delete"), "{story}: {host}: {words}");
                        let story = &format!("{story}: {words}: {:?}", self.files);
                        self.delete(host, story);
                    }
                }
                Err(refused) => {
                    let told = told_next(&refused);
                    let masters = self.hosts[..self.masters].to_vec();
                    let leaves = |host: &&IpAddr| told.contains(&format!("gantry delete -m {host}`"));
                    match masters.iter().find(leaves) {
                        Some(host) => self.delete(*host, story),
                        None if told.contains("/etc/kubernetes/pki/next-ca/") => {
                            let newest = self.newest();
                            self.files.get_mut(&masters[0]).unwrap().next = Some(newest);
                            self.look();
                            is_forward = true;
                        }
                        None if is_forward => {
                            assert!(told.contains("--abort"), "{story}: {refused}: {told}");
                            is_forward = false;
                        }
                        None => panic!("{story}: {refused}: {told}"),
                    }
                }
            }
        }
        panic!("{story}: it does not end: {:?}", self.files);
    }

    /// Whether `plan` begins another replacement.
    fn is_whole_again(&self, plan: &Plan) -> bool {
        self.files.values().all(|files| files.next.is_none())
            && plan.steps().all(|step| step.title == "new cluster CA")
    }

    fn is_whole(&self, story: &str) {
        let only = &self.files[&self.hosts[0]].trusted[0];
        for (host, files) in &self.files {
            let expected = Files {
                trusted: vec![only.clone()],
                key: files.key.as_ref().map(|_| only.clone()),
                next: None,
                kubelet: only.clone(),
                is_stale: false,
            };
            assert_eq!(*files, expected, "{story}: {host}");
        }
        assert_eq!(self.told, std::slice::from_ref(only), "{story}");
    }

    /// Goes the way on that is told, to its end.
    fn lead_out(&mut self, prefers_back: bool, story: &str) {
        let is_forward = match (self.forward(), self.back()) {
            // It came to its end.
            (Ok(None), Ok(None)) => true,
            (Ok(_), Ok(_)) => !prefers_back,
            (Ok(_), Err(refused)) => {
                assert!(
                    told_next(&refused).contains("rotate-cluster-ca` goes on"),
                    "{story}"
                );
                true
            }
            (Err(refused), Ok(_)) => {
                assert!(told_next(&refused).contains("--abort` goes on"), "{story}");
                false
            }
            (Err(one), Err(other)) => panic!("{story}: {one}; {other}"),
        };
        let mut plans = 0;
        loop {
            let plan = if is_forward { self.forward() } else { self.back() };
            let Some(plan) = plan.unwrap_or_else(|error| panic!("{story}: {error}")) else {
                break;
            };
            assert!(self.execute(&plan, None), "{story}: {:?}", self.files);
            plans += 1;
            assert!(plans < 10, "{story}");
        }
        let only = if is_forward {
            self.newest()
        } else {
            self.before.clone()
        };
        for (host, files) in &self.files {
            let expected = Files {
                trusted: vec![only.clone()],
                key: files.key.as_ref().map(|_| only.clone()),
                next: None,
                kubelet: only.clone(),
                is_stale: false,
            };
            assert_eq!(*files, expected, "{story}: {host}");
        }
        assert_eq!(self.told, [only], "{story}");
        // And nothing stands in the way of another one.
        assert!(self.back().unwrap().is_none(), "{story}");
        let next = self.forward().unwrap();
        let makes = |plan: &Plan| plan.steps().all(|step| step.title == "new cluster CA");
        assert!(next.is_none_or(|plan| makes(&plan)), "{story}");
    }
}

fn known(pem: &str) -> ClusterCa {
    let made = pem.trim().strip_prefix("made ");
    ca(
        pem,
        made.map_or(100, |number| 200 + number.parse::<i64>().unwrap()),
    )
}

fn told_next(error: &anyhow::Error) -> String {
    let failure = error.downcast_ref::<Failure>().unwrap();
    failure.hint().unwrap_or_default().to_owned()
}

/// Every way of cutting `plan` off, and what it leaves.
fn cut_off(site: &Site, plan: &Plan) -> Vec<(Site, String)> {
    let mut all = Vec::new();
    for step in plan.steps().filter(|step| step.is_to_do()) {
        for changes in 0..8 {
            let mut cut_site = site.clone();
            let cut = Cut {
                host: step.host,
                title: step.title.clone(),
                changes,
            };
            if cut_site.execute(plan, Some(&cut)) {
                break;
            }
            all.push((cut_site, format!("{} on {} after {changes}", cut.title, cut.host)));
        }
    }
    all
}

/// Clusters at every stage of a replacement, and cut off in each of its plans.
fn stages() -> Vec<(Site, String)> {
    let clusters = [
        Site::new(1, 0),
        Site::new(1, 2),
        Site::new(3, 1),
        Site::replaced_before(1, 2),
        Site::replaced_before(3, 1),
    ];
    clusters.into_iter().flat_map(stages_of).collect()
}

fn stages_of(mut site: Site) -> Vec<(Site, String)> {
    let mut all = Vec::new();
    while let Some(plan) = site.forward().unwrap() {
        all.extend(cut_off(&site, &plan));
        assert!(site.execute(&plan, None));
        all.push((site.clone(), "between plans".into()));
    }
    all
}

#[test]
fn wherever_a_step_is_cut_off_one_of_both_ways_leads_out() {
    for (site, story) in stages() {
        for prefers_back in [false, true] {
            site.clone().lead_out(prefers_back, &story);
        }
    }
}

#[test]
fn so_does_one_where_the_masters_are_in_another_order_by_then() {
    for (mut site, story) in stages().into_iter().filter(|(site, _)| site.masters > 1) {
        let masters = site.masters;
        site.hosts[..masters].reverse();
        for prefers_back in [false, true] {
            site.clone().lead_out(prefers_back, &format!("{story}, turned"));
        }
    }
}

/// By a snapshot of its disk, or /etc/kubernetes alone by a copy of it.
#[test]
fn a_host_that_was_put_back_to_what_it_was_goes_on_or_is_named_with_the_way_out() {
    for start in [Site::new(1, 2), Site::new(3, 1), Site::replaced_before(3, 1)] {
        let mut sites = vec![start];
        while let Some(plan) = sites.last().unwrap().forward().unwrap() {
            let mut site = sites.last().unwrap().clone();
            assert!(site.execute(&plan, None));
            // That the next one is made is another story.
            site.again = false;
            sites.push(site);
        }
        for (now, site) in sites.iter().enumerate() {
            for (then, before) in sites[..now].iter().enumerate() {
                for host in &site.hosts {
                    for whole in [false, true] {
                        let mut site = site.clone();
                        let files = site.files.get_mut(host).unwrap();
                        let kubelet = std::mem::replace(files, before.files[host].clone()).kubelet;
                        if whole {
                            let report = before.inventory.hosts[host].clone();
                            site.inventory.hosts.insert(*host, report);
                        } else {
                            files.kubelet = kubelet;
                        }
                        site.look();
                        let story = format!(
                            "{} control planes, {host} from {now} back to {then}, whole: {whole}",
                            site.masters
                        );
                        site.lead_out_of_anything(&story);
                    }
                }
            }
        }
    }
}

#[test]
fn wherever_a_withdrawal_is_cut_off_after_that_one_of_both_ways_leads_out() {
    for (site, first) in stages() {
        let Ok(Some(plan)) = site.back() else { continue };
        for (mut site, second) in cut_off(&site, &plan) {
            site.lead_out(false, &format!("{first}, {second}"));
        }
    }
}

/// As an agent did that told of `ca.crt` alone: the one whose key signs was told to give it up after others did.
#[test]
fn hosts_that_gave_a_ca_up_trust_it_again_where_it_signs_elsewhere() {
    let mut site = Site::new(3, 1);
    for _ in 0..2 {
        let plan = site.forward().unwrap().unwrap();
        assert!(site.execute(&plan, None));
    }
    let back = site.back().unwrap().unwrap();
    let last = site.hosts[2];
    site.files.get_mut(&last).unwrap().key = Some("made 1\n".into());
    assert!(!site.execute(&back, None), "it refuses");
    assert_eq!(site.files[&site.hosts[0]].trusted, [OLD]);
    site.lead_out(true, "the last control plane signs");
}

#[test]
fn a_host_on_which_a_withdrawal_did_not_end_is_told_and_brought_to_its_end() {
    let mut site = Site::new(1, 2);
    for _ in 0..2 {
        let plan = site.forward().unwrap().unwrap();
        assert!(site.execute(&plan, None));
    }
    let back = site.back().unwrap().unwrap();
    let cut = Cut {
        host: site.hosts[2],
        title: "withdraw new CA".into(),
        changes: 2,
    };
    assert!(!site.execute(&back, Some(&cut)));
    assert!(site.files[&site.hosts[2]].is_stale);
    let refused = site.forward().unwrap_err();
    assert!(
        refused.to_string().contains("is being taken out again"),
        "{refused}"
    );
    // Its end may be cut off as well.
    for _ in 0..2 {
        let rest = site.back().unwrap().unwrap();
        let withdrawn: Vec<IpAddr> = rest.steps().map(|step| step.host).collect();
        assert_eq!(withdrawn, [site.hosts[2]]);
        assert!(!site.execute(&rest, Some(&cut)));
    }
    site.lead_out(true, "the last host");
}
