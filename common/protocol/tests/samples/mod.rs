//! One sample of every message and every variant, fixed for all time.

use std::collections::BTreeMap;

use gantry_model::{
    ApplicationLaunch, CertificateKeeper, CertificateRecord, ClusterCa, ClusterCas, ClusterHealth,
    ClusterName, CommandMoment, CommandOrigin, ConfigFile, Digest, DiskSpace, EffectCheck, EtcdMember,
    EtcdMembers, Generation, GenerationId, HostFacts, HostNetwork, HostsEntry, ImageCommand, ImageEvidence,
    ImagePlugin, ImageSignature, Inventory, JoinPass, KeptSnapshot, KubeadmAct, KubeadmSpec, LayerDescriptor,
    ListeningPort, NodeGroup, NodeHealth, NodeMarks, ScriptEffect, ScriptOutcome, ScriptSpec, ShellCommand,
    SnapshotName, Step, StepAction, StepId, StepOutcome, StepRecord, Taint, TaintEffect, TaintPattern,
    TocLocation,
};
use gantry_protocol::codec::encode;
use gantry_protocol::{
    ChunkRange, EnrolmentAnswer, EnrolmentAsk, FetchReply, FetchRequest, Hello, HelloReply, Message,
    ProtocolVersion, Refusal, RefusalKind, Reply, Request, SnapshotPart, StepEvent, TransferProgress,
};

/// A frame, by the name of what it holds.
pub(crate) type Sample = (&'static str, Vec<u8>);

/// Every sample, in a fixed order. New ones are put at the end.
pub(crate) fn all() -> Vec<Sample> {
    let mut samples = vec![];
    greeting(&mut samples);
    requests(&mut samples);
    replies(&mut samples);
    events(&mut samples);
    fetches(&mut samples);
    enrolment(&mut samples);
    snapshots(&mut samples);
    samples
}

fn put<M: Message>(samples: &mut Vec<Sample>, name: &'static str, message: &M) {
    samples.push((name, encode(message).expect("samples are short")));
}

fn snapshots(to: &mut Vec<Sample>) {
    put(
        to,
        "Request::EtcdSnapshot",
        &Request::EtcdSnapshot { cluster: cluster() },
    );
    put(to, "Reply::EtcdSnapshot", &Reply::EtcdSnapshot);
    put(to, "SnapshotPart::Bytes", &SnapshotPart::Bytes(32 << 10));
    put(to, "SnapshotPart::End", &SnapshotPart::End);
    put(to, "SnapshotPart::Failed", &SnapshotPart::Failed("why".into()));
    let database = Digest::of(b"database");
    put(
        to,
        "Request::TakeSnapshot",
        &Request::TakeSnapshot {
            cluster: cluster(),
            database,
        },
    );
    let cluster = cluster();
    for (name, action) in [
        (
            "Run/StopApiServer",
            StepAction::StopApiServer {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/RestoreEtcd/given",
            StepAction::RestoreEtcd {
                cluster: cluster.clone(),
                snapshot: SnapshotName::Given(database),
            },
        ),
        (
            "Run/RestoreEtcd/before",
            StepAction::RestoreEtcd {
                cluster: cluster.clone(),
                snapshot: SnapshotName::Before("v1.20.3".into()),
            },
        ),
        (
            "Run/StartApiServer",
            StepAction::StartApiServer {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/MakeClusterCa",
            StepAction::MakeClusterCa {
                cluster: cluster.clone(),
                replaces: digest(5),
            },
        ),
        (
            "Run/TrustClusterCas",
            StepAction::TrustClusterCas {
                cluster: cluster.clone(),
                authorities: vec!["a CA\n".into(), "another\n".into()],
            },
        ),
        (
            "Run/PublishClusterCas",
            StepAction::PublishClusterCas {
                cluster: cluster.clone(),
                authorities: vec!["a CA\n".into()],
            },
        ),
        (
            "Run/PublishKubeletConfiguration",
            StepAction::PublishKubeletConfiguration {
                cluster: cluster.clone(),
                config: "kind: KubeletConfiguration\nmaxPods: 200\n".into(),
            },
        ),
        (
            "Run/ConfigureKubelet",
            StepAction::ConfigureKubelet {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/SignByClusterCa",
            StepAction::SignByClusterCa {
                cluster: cluster.clone(),
                ca: digest(6),
                from: Some([10, 0, 0, 2].into()),
            },
        ),
        (
            "Run/RenewKubeletCertificate",
            StepAction::RenewKubeletCertificate {
                cluster: cluster.clone(),
                ca: digest(6),
            },
        ),
        (
            "Run/CheckQuorumMeanwhile",
            StepAction::CheckQuorumMeanwhile {
                cluster: cluster.clone(),
                address: [10, 0, 0, 1].into(),
            },
        ),
        (
            "Run/WithdrawClusterCa",
            StepAction::WithdrawClusterCa {
                cluster: cluster.clone(),
                ca: digest(6),
                authorities: vec!["a CA\n".into()],
            },
        ),
        (
            "Run/CheckScriptEffect",
            StepAction::CheckScriptEffect(EffectCheck {
                cluster: cluster.clone(),
                script: "scripts/init-registry.sh".into(),
                effects: vec![
                    ScriptEffect::DockerAnswers,
                    ScriptEffect::ContainerdAnswers,
                    ScriptEffect::KubeletIsEnabled,
                    ScriptEffect::RegistryServes {
                        domain: "sea.hub".into(),
                        port: 5000,
                    },
                ],
                time_limit_s: 60,
            }),
        ),
    ] {
        let after = Vec::new();
        put(to, name, &Request::Run(Step { action, after }));
    }
}

fn greeting(to: &mut Vec<Sample>) {
    let version = ProtocolVersion(1);
    let program = "0.1.0".to_owned();
    let clock_ms = 1_795_478_400_000;
    put(
        to,
        "Hello",
        &Hello {
            oldest: version,
            newest: version,
            program: program.clone(),
            clock_ms,
        },
    );
    put(
        to,
        "HelloReply::Agreed",
        &HelloReply::Agreed {
            version,
            program: program.clone(),
            clock_ms,
        },
    );
    put(
        to,
        "HelloReply::NoCommonVersion",
        &HelloReply::NoCommonVersion {
            oldest: version,
            newest: version,
            program,
        },
    );
}

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn cluster() -> ClusterName {
    "demo".parse().expect("a cluster name")
}

fn step_id() -> StepId {
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
        .parse()
        .expect("64 hex digits")
}

fn actions() -> Vec<(&'static str, StepAction)> {
    let cluster = cluster();
    let toc = TocLocation {
        offset: 5,
        compressed_len: 6,
        len: 7,
        digest: digest(3),
    };
    let layer = LayerDescriptor {
        digest: digest(1),
        size: 300,
        diff_id: digest(2),
        toc,
    };
    let script = ScriptSpec {
        cluster: cluster.clone(),
        path: "scripts/init.sh".into(),
        args: vec!["{rootfs}".into(), "5000".into()],
        env: BTreeMap::from([("PodCIDR".to_owned(), "100.64.0.0/10".to_owned())]),
        time_limit_s: 600,
    };
    let entry = HostsEntry {
        address: [10, 0, 0, 1].into(),
        names: vec!["sea.hub".into()],
    };
    let v6 = HostsEntry {
        address: std::net::Ipv6Addr::LOCALHOST.into(),
        names: vec![],
    };
    vec![
        (
            "Run/Stage",
            StepAction::Stage {
                image: digest(9),
                layers: vec![layer],
            },
        ),
        (
            "Run/AssembleRootfs",
            StepAction::AssembleRootfs {
                cluster: cluster.clone(),
                image: digest(9),
                layers: vec![digest(1)],
            },
        ),
        (
            "Run/WriteHostsEntries",
            StepAction::WriteHostsEntries {
                cluster: cluster.clone(),
                entries: vec![entry, v6],
            },
        ),
        ("Run/RunScript", StepAction::RunScript(script)),
        (
            "Run/RemoveRootfs",
            StepAction::RemoveRootfs {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/RemoveHostsEntries",
            StepAction::RemoveHostsEntries {
                cluster: cluster.clone(),
            },
        ),
        ("Run/RemoveUnusedLayers", StepAction::RemoveUnusedLayers),
        (
            "Run/ForgetCluster",
            StepAction::ForgetCluster {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/Kubeadm",
            StepAction::Kubeadm(KubeadmSpec {
                cluster: cluster.clone(),
                act: KubeadmAct::Join {
                    from: [10, 0, 0, 1].into(),
                    control_plane: true,
                },
                kubernetes: "v1.20.2".into(),
                config: "kind: JoinConfiguration\n".into(),
                skipped_phases: vec!["addon/coredns".into()],
                ignored_checks: vec!["ImagePull".into()],
                time_limit_s: 1800,
            }),
        ),
        (
            "Run/SetBalancer",
            StepAction::SetBalancer {
                cluster: cluster.clone(),
                listen: ([127, 0, 0, 1], 6443).into(),
                backends: vec![([10, 0, 0, 1], 6443).into()],
            },
        ),
        (
            "Run/RunImageCommand",
            StepAction::RunImageCommand(ImageCommand {
                cluster: cluster.clone(),
                command: "kubectl apply -f manifests".into(),
                index: 1,
                manifest: "{}".into(),
                config: "{}".into(),
                env: BTreeMap::from([("HostIP".to_owned(), "10.0.0.1".to_owned())]),
                time_limit_s: 3600,
            }),
        ),
        (
            "Run/RunShellCommand/Plugin",
            StepAction::RunShellCommand(ShellCommand {
                cluster: cluster.clone(),
                origin: CommandOrigin::Plugin("dns".into()),
                when: CommandMoment::BeforeInit,
                text: "echo nameserver 10.0.0.1 >/etc/resolv.conf\n".into(),
                env: BTreeMap::from([("HostIP".to_owned(), "10.0.0.1".to_owned())]),
                time_limit_s: 3600,
            }),
        ),
        (
            "Run/RunShellCommand/Listed",
            StepAction::RunShellCommand(ShellCommand {
                cluster: cluster.clone(),
                origin: CommandOrigin::Listed(1),
                when: CommandMoment::AfterClean,
                text: "true".into(),
                env: BTreeMap::new(),
                time_limit_s: 0,
            }),
        ),
        (
            "Run/RunShellCommand/Application",
            StepAction::RunShellCommand(ShellCommand {
                cluster: cluster.clone(),
                origin: CommandOrigin::Application("web".into()),
                when: CommandMoment::Commands,
                text: "true".into(),
                env: BTreeMap::new(),
                time_limit_s: 0,
            }),
        ),
        (
            "Run/RunShellCommand/AfterRollback",
            StepAction::RunShellCommand(ShellCommand {
                cluster: cluster.clone(),
                origin: CommandOrigin::Plugin("back".into()),
                when: CommandMoment::AfterRollback,
                text: "true".into(),
                env: BTreeMap::new(),
                time_limit_s: 0,
            }),
        ),
        (
            "Run/RunShellCommand/AfterScaleUp",
            StepAction::RunShellCommand(ShellCommand {
                cluster: cluster.clone(),
                origin: CommandOrigin::Plugin("more".into()),
                when: CommandMoment::AfterScaleUp,
                text: "true".into(),
                env: BTreeMap::new(),
                time_limit_s: 0,
            }),
        ),
        (
            "Run/RunImagePlugin",
            StepAction::RunImagePlugin(ImagePlugin {
                command: ShellCommand {
                    cluster: cluster.clone(),
                    origin: CommandOrigin::Plugin("dns".into()),
                    when: CommandMoment::AfterJoin,
                    text: "true\n".into(),
                    env: BTreeMap::new(),
                    time_limit_s: 3600,
                },
                file: "plugins/dns.yaml".into(),
            }),
        ),
        (
            "Run/LaunchApplication",
            StepAction::LaunchApplication(ApplicationLaunch {
                cluster: cluster.clone(),
                application: "web".into(),
                manifest: "{}".into(),
                env: BTreeMap::from([("Replicas".to_owned(), "3".to_owned())]),
                time_limit_s: 3600,
            }),
        ),
        (
            "Run/SetHostname",
            StepAction::SetHostname {
                cluster: cluster.clone(),
                name: "node1".into(),
            },
        ),
        (
            "Run/RestoreHostname",
            StepAction::RestoreHostname {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/DrainNode",
            StepAction::DrainNode {
                cluster: cluster.clone(),
                node: "host3".into(),
                time_limit_s: 600,
                leaves: true,
            },
        ),
        (
            "Run/RenewCertificates",
            StepAction::RenewCertificates {
                cluster: cluster.clone(),
                ending: 1_795_478_400,
            },
        ),
        (
            "Run/CheckQuorum",
            StepAction::CheckQuorum {
                cluster: cluster.clone(),
                address: [192, 0, 2, 1].into(),
            },
        ),
        (
            "Run/RemoveEtcdMember",
            StepAction::RemoveEtcdMember {
                cluster: cluster.clone(),
                address: [192, 0, 2, 1].into(),
            },
        ),
        (
            "Run/DeleteNode",
            StepAction::DeleteNode {
                cluster: cluster.clone(),
                node: "host3".into(),
            },
        ),
        (
            "Run/MarkNodes",
            StepAction::MarkNodes {
                cluster: cluster.clone(),
                groups: vec![NodeGroup {
                    nodes: vec!["host3".into()],
                    marks: NodeMarks {
                        labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
                        taints: vec![Taint {
                            key: "dedicated".into(),
                            value: "db".into(),
                            effect: TaintEffect::NoSchedule,
                        }],
                        without_taints: vec![TaintPattern {
                            key: "node-role.kubernetes.io/master".into(),
                            effect: None,
                        }],
                    },
                }],
            },
        ),
        (
            "Run/RemoveBalancer",
            StepAction::RemoveBalancer {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/SetRegistry",
            StepAction::SetRegistry {
                cluster: cluster.clone(),
                domain: "sea.hub".into(),
                port: 5000,
            },
        ),
        (
            "Run/RemoveRegistry",
            StepAction::RemoveRegistry {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/WriteConfigs",
            StepAction::WriteConfigs {
                cluster: cluster.clone(),
                files: vec![ConfigFile {
                    path: "etc/db.yaml".into(),
                    content: "user: root\n".into(),
                }],
            },
        ),
        (
            "Run/KeepEtcdSnapshot",
            StepAction::KeepEtcdSnapshot {
                cluster: cluster.clone(),
                before: "v1.20.3".into(),
            },
        ),
        (
            "Run/CordonNode",
            StepAction::CordonNode {
                cluster: cluster.clone(),
                node: "host3".into(),
            },
        ),
        (
            "Run/RestartKubelet",
            StepAction::RestartKubelet {
                cluster: cluster.clone(),
            },
        ),
        (
            "Run/UncordonNode",
            StepAction::UncordonNode {
                cluster: cluster.clone(),
                node: "host3".into(),
                version: "v1.20.3".into(),
                time_limit_s: 600,
            },
        ),
        (
            "Run/WaitForNodes",
            StepAction::WaitForNodes {
                cluster: cluster.clone(),
                time_limit_s: 600,
                except: vec!["host3".into()],
            },
        ),
        (
            "Run/WaitForSystemPods",
            StepAction::WaitForSystemPods {
                cluster: cluster.clone(),
                time_limit_s: 900,
            },
        ),
        (
            "Run/RenderTemplates",
            StepAction::RenderTemplates {
                cluster,
                values: BTreeMap::from([("HostIP".to_owned(), "10.0.0.1".to_owned())]),
            },
        ),
    ]
}

fn requests(to: &mut Vec<Sample>) {
    put(to, "Request::Inventory", &Request::Inventory);
    for (name, action) in actions() {
        put(
            to,
            name,
            &Request::Run(Step {
                action,
                after: vec![step_id()],
            }),
        );
    }
    put(
        to,
        "Request::Logs",
        &Request::Logs {
            step: step_id(),
            follow: true,
        },
    );
    put(
        to,
        "Request::JoinPass",
        &Request::JoinPass {
            cluster: cluster(),
            control_plane: true,
        },
    );
    let step = Step {
        action: StepAction::RemoveUnusedLayers,
        after: vec![],
    };
    put(
        to,
        "Request::Kubeconfig",
        &Request::Kubeconfig { cluster: cluster() },
    );
    put(
        to,
        "Request::ClusterHealth",
        &Request::ClusterHealth { cluster: cluster() },
    );
    put(to, "Request::SigningRequest", &Request::SigningRequest);
    put(
        to,
        "Request::Certificate",
        &Request::Certificate {
            der: vec![0x30, 0x82],
        },
    );
    put(to, "Request::RunJoin", &Request::RunJoin { step, pass: pass() });
    put(to, "Request::Cancel", &Request::Cancel { step: step_id() });
    put(
        to,
        "Request::Revocations",
        &Request::Revocations {
            crl: vec![0x30, 0x82],
        },
    );
    put(to, "Request::Drift", &Request::Drift { cluster: cluster() });
    put(
        to,
        "Request::Trust",
        &Request::Trust {
            authorities: "-----BEGIN CERTIFICATE-----\n".into(),
        },
    );
    put(
        to,
        "Request::Knows",
        &Request::Knows {
            step: Step {
                action: StepAction::RemoveUnusedLayers,
                after: vec![],
            },
        },
    );
    put(
        to,
        "Request::ImageKey",
        &Request::ImageKey {
            key: "-----BEGIN PUBLIC KEY-----\n".into(),
        },
    );
    put(
        to,
        "Request::VerifyImage",
        &Request::VerifyImage {
            image: ImageEvidence {
                name: "sea.hub:5000/demo:v1".parse().expect("it is a name"),
                manifest: b"{}".to_vec(),
                index: Some(b"{ }".to_vec()),
                signatures: vec![ImageSignature {
                    payload: b"{\"critical\":{}}".to_vec(),
                    signature: vec![0x30, 0x45],
                }],
            },
        },
    );
}

fn health() -> ClusterHealth {
    ClusterHealth {
        nodes: vec![NodeHealth {
            name: "node1".into(),
            address: Some([192, 0, 2, 1].into()),
            version: "v1.20.2".into(),
            problem: Some("Kubelet stopped posting node status.".into()),
            cordoned: true,
        }],
        etcd: EtcdMembers(vec![EtcdMember {
            name: "node1".into(),
            address: [192, 0, 2, 1].into(),
            learner: false,
            problem: None,
        }]),
        problems: vec!["etcd: no answer".into()],
    }
}

fn pass() -> JoinPass {
    JoinPass {
        token: "abcdef.0123456789abcdef".into(),
        ca_hash: "sha256:00".into(),
        certificate_key: Some("00ff".into()),
    }
}

fn inventory() -> Inventory {
    let facts = HostFacts {
        hostname: "node1".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        os: "debian 12".into(),
        kernel: "6.1.0-18-amd64".into(),
        arch: "amd64".into(),
        cpus: 2,
        memory: 8 << 30,
        swap: 0,
        store_disk: DiskSpace {
            total: 100 << 30,
            free: 40 << 30,
        },
        ports: vec![
            ListeningPort { port: 22, udp: false },
            ListeningPort { port: 53, udp: true },
        ],
        runtimes: vec!["docker".into()],
        missing_commands: vec!["conntrack".into()],
        overlay: true,
        kubernetes: vec!["/etc/kubernetes/admin.conf".into()],
        missing_tools: vec!["conntrack".into()],
        cgroups: vec!["cpu".into(), "memory".into()],
        etcd_disk: DiskSpace {
            total: 100 << 30,
            free: 40 << 30,
        },
        etcd_beside_store: true,
        networks: vec![HostNetwork {
            range: "192.0.2.0/24".parse().expect("it is a range"),
            interface: "eth0".into(),
        }],
        allow_exec: true,
    };
    let id = GenerationId(2);
    let record = |outcome: Option<StepOutcome>| StepRecord {
        id: step_id(),
        cluster: Some(cluster()),
        title: "init.sh".into(),
        started_at: 1_795_478_400,
        ended_at: outcome.is_some().then_some(1_795_478_460),
        outcome,
        kubernetes: Some("v1.20.2".into()),
    };
    Inventory {
        agent_version: "0.1.0".into(),
        clock_ms: 1_795_478_400_000,
        facts,
        layers: vec![digest(1)],
        partial_layers: vec![(digest(2), 4096)],
        generations: vec![Generation {
            id,
            cluster: cluster(),
            image: digest(9),
            layers: vec![digest(1)],
        }],
        current: vec![(cluster(), id)],
        steps: vec![
            record(None),
            record(Some(StepOutcome::Done { generation: Some(id) })),
        ],
        certificates: vec![CertificateRecord {
            file: "/etc/kubernetes/pki/apiserver.crt".into(),
            subject: "kube-apiserver".into(),
            not_after: 1_795_478_400,
            keeper: CertificateKeeper::Kubeadm,
        }],
        etcd_snapshots: vec![KeptSnapshot {
            cluster: cluster(),
            before: "v1.20.3".into(),
            at: 1_795_478_400,
            len: 4 << 20,
        }],
        cluster_cas: ClusterCas {
            trusted: vec![cluster_ca(5)],
            next: Some(cluster_ca(6)),
        },
    }
}

fn cluster_ca(of: u8) -> ClusterCa {
    ClusterCa {
        pem: "a CA\n".into(),
        fingerprint: digest(of),
        not_before: 1_795_478_400,
        not_after: 2_110_838_400,
    }
}

fn replies(to: &mut Vec<Sample>) {
    put(to, "Reply::Inventory", &Reply::Inventory(Box::new(inventory())));
    put(to, "Reply::Accepted", &Reply::Accepted);
    put(to, "Reply::Done", &Reply::Done);
    put(
        to,
        "Reply::Drift",
        &Reply::Drift(vec!["the rootfs is not mounted".into()]),
    );
    put(
        to,
        "Reply::Kubeconfig",
        &Reply::Kubeconfig("kind: Config\n".into()),
    );
    put(
        to,
        "Reply::SigningRequest",
        &Reply::SigningRequest(vec![0x30, 0x82]),
    );
    put(to, "Reply::ClusterHealth", &Reply::ClusterHealth(health()));
    put(to, "Reply::JoinPass", &Reply::JoinPass(pass()));
    for (name, kind) in [
        ("Reply::Refused/Forbidden", RefusalKind::Forbidden),
        ("Reply::Refused/Invalid", RefusalKind::Invalid),
        ("Reply::Refused/Busy", RefusalKind::Busy),
        ("Reply::Refused/NotFound", RefusalKind::NotFound),
        ("Reply::Refused/NoSpace", RefusalKind::NoSpace),
        ("Reply::Refused/Draining", RefusalKind::Draining),
        ("Reply::Refused/Internal", RefusalKind::Internal),
    ] {
        put(
            to,
            name,
            &Reply::Refused(Refusal {
                kind,
                message: "why".into(),
            }),
        );
    }
}

fn events(to: &mut Vec<Sample>) {
    let progress = TransferProgress {
        wanted: 1,
        received: 250,
        reused: 251,
        written: 70_000,
        total: 1 << 40,
    };
    put(to, "StepEvent::AlreadyDone", &StepEvent::AlreadyDone);
    put(to, "StepEvent::Started", &StepEvent::Started);
    put(to, "StepEvent::Progress", &StepEvent::Progress(progress));
    put(
        to,
        "StepEvent::Output",
        &StepEvent::Output {
            stderr: true,
            line: b"\xffline".to_vec(),
        },
    );
    let finished = |outcome| StepEvent::Finished(outcome);
    put(
        to,
        "Finished/Done",
        &finished(StepOutcome::Done { generation: None }),
    );
    for (name, outcome) in [
        ("Finished/Script/Exited", ScriptOutcome::Exited(-1)),
        ("Finished/Script/Signalled", ScriptOutcome::Signalled(9)),
        ("Finished/Script/TimedOut", ScriptOutcome::TimedOut),
        ("Finished/Script/Cancelled", ScriptOutcome::Cancelled),
        ("Finished/Script/Unknown", ScriptOutcome::Unknown),
    ] {
        put(to, name, &finished(StepOutcome::Script(outcome)));
    }
    put(
        to,
        "Finished/Failed",
        &finished(StepOutcome::Failed("disk full".into())),
    );
    put(to, "Finished/Unknown", &finished(StepOutcome::Unknown));
    put(
        to,
        "Finished/Damaged",
        &finished(StepOutcome::Damaged("layer 0123456789ab, bin/kubelet".into())),
    );
}

fn fetches(to: &mut Vec<Sample>) {
    let ranges = vec![
        ChunkRange { first: 0, count: 3 },
        ChunkRange {
            first: 70_000,
            count: 1,
        },
    ];
    put(to, "FetchRequest::Toc", &FetchRequest::Toc { layer: digest(1) });
    put(
        to,
        "FetchRequest::Chunks",
        &FetchRequest::Chunks {
            layer: digest(1),
            ranges,
        },
    );
    put(to, "FetchReply::Bytes", &FetchReply::Bytes(1 << 33));
    let refusal = Refusal {
        kind: RefusalKind::NotFound,
        message: "no such layer".into(),
    };
    put(to, "FetchReply::Refused", &FetchReply::Refused(refusal));
}

fn enrolment(to: &mut Vec<Sample>) {
    let version = ProtocolVersion(1);
    let program = "0.1.0".to_owned();
    let clock_ms = 1_795_478_400_000;
    let refusal = Refusal {
        kind: RefusalKind::Forbidden,
        message: "expired".into(),
    };
    let ask = EnrolmentAsk::Hello {
        oldest: version,
        newest: version,
        program: program.clone(),
        clock_ms,
        nonce: [1; 32],
        ca_hash: [2; 32],
    };
    put(to, "EnrolmentAsk::Hello", &ask);
    put(
        to,
        "EnrolmentAsk::Proof",
        &EnrolmentAsk::Proof {
            mac: [3; 32],
            host: "10.0.0.1".into(),
            ca: vec![0x30],
        },
    );
    put(
        to,
        "EnrolmentAsk::Grant",
        &EnrolmentAsk::Grant {
            certificate: vec![0x30],
            crl: vec![0x31],
        },
    );
    put(
        to,
        "EnrolmentAsk::Refused",
        &EnrolmentAsk::Refused(refusal.clone()),
    );
    let token_id = "0123456789".to_owned();
    let offer = EnrolmentAnswer::Offer {
        version,
        program,
        clock_ms,
        nonce: [4; 32],
        token_id,
    };
    put(to, "EnrolmentAnswer::Offer", &offer);
    put(
        to,
        "EnrolmentAnswer::Request",
        &EnrolmentAnswer::Request {
            mac: [5; 32],
            csr: vec![0x30, 0x31],
        },
    );
    put(to, "EnrolmentAnswer::Stored", &EnrolmentAnswer::Stored);
    put(to, "EnrolmentAnswer::Refused", &EnrolmentAnswer::Refused(refusal));
}
