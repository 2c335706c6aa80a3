//! Everything about a tree that an image carries, as lines that can be compared.

/// Shell words that list the folder they run in: kinds, modes, owners, link counts and targets, times of files, contents,
/// extended attributes, and which names are one file. Folders' times are left out: who unpacks what in them changes those.
pub const TREE_LIST: &str = r#"
    find . -mindepth 1 \( -type f -printf 'file %P %m %U:%G links=%n size=%s time=%Ts\n' \
        -o -type d -printf 'folder %P %m %U:%G\n' -o -printf 'other %P %y %l\n' \) | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    getfattr --recursive --no-dereference --dump --encoding=hex --match='^user\.|^security\.capability' . | sed 's/^# file: /# /'
    find . -type f -links +1 -printf '%i %P\n' | sort | awk '{ if ($1 == last) print "same file:", name, $2; last = $1; name = $2 }'
"#;

/// Compares two lists, and shows nothing but what differs.
///
/// # Panics
/// When they are not the same.
pub fn assert_same_tree(gantry: &str, other: &str, who: &str) {
    let only = |here: &str, there: &str| -> Vec<String> {
        here.lines()
            .filter(|line| !there.lines().any(|other| other == *line))
            .map(str::to_owned)
            .collect()
    };
    let difference = (only(gantry, other), only(other, gantry));
    assert_eq!(difference, (vec![], vec![]), "only Gantry, only {who}");
}
