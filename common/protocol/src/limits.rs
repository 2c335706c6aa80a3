//! Every length, count and queue a peer can influence, by name and with its reason.

/// Largest control message. An inventory of a host with a long journal is the largest: a few hundred KiB.
pub const MAX_MESSAGE_LEN: usize = 1 << 20;
/// Largest table of contents of one layer, compressed and uncompressed: 64 MiB holds about 300,000 files.
pub const MAX_TOC_LEN: u64 = 64 << 20;
/// Largest chunk after decompression (decision 1 of the layer format).
pub const MAX_CHUNK_LEN: u32 = 1 << 20;
/// Largest chunk on the wire: zstd's worst case for 1 MiB, rounded up.
pub const MAX_COMPRESSED_CHUNK_LEN: u32 = MAX_CHUNK_LEN + (MAX_CHUNK_LEN >> 7) + 1024;
/// Most ranges in one fetch request; more are asked for in another.
pub const MAX_RANGES_PER_FETCH: usize = 4096;
/// Most layers of one image: overlay mounts on the kernels we support end at 500.
pub const MAX_LAYERS: usize = 490;
/// Longest line of script output in one event; longer lines are split.
pub const MAX_OUTPUT_LINE: usize = 8 << 10;
/// Most streams one peer may have open at a time.
pub const MAX_OPEN_STREAMS: u32 = 64;
/// Most connections an agent serves at a time.
pub const MAX_CONNECTIONS: usize = 64;
/// Most entries of one marked block in `/etc/hosts`.
pub const MAX_HOSTS_ENTRIES: usize = 1024;
/// Most arguments and variables of one script.
pub const MAX_SCRIPT_WORDS: usize = 1024;
/// Most effects of one script that are looked for.
pub const MAX_SCRIPT_EFFECTS: usize = 16;
/// Longest configuration of kubeadm, in bytes.
pub const MAX_KUBEADM_CONFIG_LEN: usize = 64 << 10;
/// Most CAs that a cluster has at a time: one, and one that takes its place; more where somebody has added his own.
pub const MAX_CLUSTER_CAS: usize = 8;
/// Longest certificate of one of them, in bytes of PEM.
pub const MAX_CLUSTER_CA_LEN: usize = 8 << 10;
/// Longest kubeconfig, in bytes.
pub const MAX_KUBECONFIG_LEN: u64 = 64 << 10;
/// Most nodes that one step marks: twice what Kubernetes is made for.
pub const MAX_MARKED_NODES: usize = 10_000;
/// Largest snapshot of etcd, in bytes: twice what etcd itself advises as the most its data may grow to (etcd.io, "System limits").
pub const MAX_SNAPSHOT_LEN: u64 = 16 << 30;
/// Largest part of a snapshot that is sent at once, in bytes.
pub const MAX_SNAPSHOT_PART_LEN: u32 = 1 << 20;
/// Most API servers a balancer leads to.
pub const MAX_BACKENDS: usize = 64;
/// Most templates of one rootfs.
pub const MAX_TEMPLATES: usize = 10_000;
/// Deepest folder below a rootfs in which templates are looked for.
pub const MAX_TEMPLATE_FOLDERS_DEEP: usize = 64;
/// Most values that templates of one rootfs are rendered with.
pub const MAX_TEMPLATE_VALUES: usize = 1024;
/// Most config files of one cluster.
pub const MAX_CONFIG_FILES: usize = 1024;
/// Most bytes of their contents together: they travel in one message.
pub const MAX_CONFIG_FILES_LEN: usize = MAX_MESSAGE_LEN / 2;
/// Longest file of an image that a config file stands over: it is kept aside.
pub const MAX_FILE_UNDER_CONFIG_LEN: usize = 16 << 20;
/// Journal records that an inventory carries and a journal that is rewritten keeps: those that plans need most come first
/// (`gantry_model::most_needed_records`). There is room for all moves of pods of about 570 workers; for what says that pods came back
/// to a worker, of about 1,700: beyond that, pods of some would move again with every `apply`.
pub const MAX_STEPS_IN_INVENTORY: usize = 2000;
