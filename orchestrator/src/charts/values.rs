//! Which values each chart gets: its own under those of the chart that brings it, as helm has it.

use serde_json::{Map, Value as Json};

use super::chart::Chart;

/// Values that every chart below gets, too.
const GLOBAL: &str = "global";

/// Charts that `chart` brings and that its values do not switch off, each under the name it is called by there, with its values.
pub(super) fn dependencies<'c>(chart: &'c Chart, values: &Json) -> Vec<(String, &'c Chart, Json)> {
    let declared = chart.metadata.get("dependencies").and_then(Json::as_array);
    let declared: Vec<&Map<String, Json>> = declared
        .into_iter()
        .flatten()
        .filter_map(Json::as_object)
        .collect();
    let text =
        |one: &Map<String, Json>, field: &str| one.get(field).and_then(Json::as_str).map(str::to_owned);
    let mut all = Vec::new();
    for below in &chart.charts {
        let mut of_this: Vec<_> = declared
            .iter()
            .filter(|one| text(one, "name").as_deref() == Some(below.name.as_str()))
            .filter(|one| is_on(one, values))
            .map(|one| text(one, "alias").unwrap_or_else(|| below.name.clone()))
            .collect();
        let is_declared = declared
            .iter()
            .any(|one| text(one, "name").as_deref() == Some(below.name.as_str()));
        if !is_declared {
            of_this.push(below.name.clone());
        }
        for name in of_this {
            let mut own = below.values.clone();
            if let Some(over) = values.get(&name) {
                put_over(&mut own, over);
            }
            if let Some(global) = values.get(GLOBAL) {
                let global = Json::Object(Map::from_iter([(GLOBAL.to_owned(), global.clone())]));
                put_over(&mut own, &global);
            }
            all.push((name, below, own));
        }
    }
    all
}

/// Whether a chart that is declared is wanted: the first of its conditions that the values answer counts, then its tags.
fn is_on(declared: &Map<String, Json>, values: &Json) -> bool {
    let conditions = declared
        .get("condition")
        .and_then(Json::as_str)
        .unwrap_or_default();
    for condition in conditions
        .split(',')
        .map(str::trim)
        .filter(|path| !path.is_empty())
    {
        let answer = condition.split('.').try_fold(values, |at, part| at.get(part));
        if let Some(answer) = answer.and_then(Json::as_bool) {
            return answer;
        }
    }
    let tags = declared.get("tags").and_then(Json::as_array);
    let answers: Vec<bool> = tags
        .into_iter()
        .flatten()
        .filter_map(|tag| values.get("tags")?.get(tag.as_str()?)?.as_bool())
        .collect();
    answers.is_empty() || answers.contains(&true)
}

/// Puts `over` on top of `values`: mappings are merged, `null` takes away, everything else is replaced.
pub(super) fn put_over(values: &mut Json, over: &Json) {
    let (Json::Object(fields), Json::Object(over)) = (&mut *values, over) else {
        *values = over.clone();
        return;
    };
    for (name, over) in over {
        match fields.get_mut(name) {
            _ if over.is_null() => {
                fields.remove(name);
            }
            Some(value) if value.is_object() && over.is_object() => put_over(value, over),
            _ => {
                fields.insert(name.clone(), over.clone());
            }
        }
    }
}
