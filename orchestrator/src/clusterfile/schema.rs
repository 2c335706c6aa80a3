//! The JSON Schema of a Clusterfile, made from the types of [`super::document`].

use serde_json::Value;

use super::document::Document;

/// The schema, for `gantry schema`, for editors and for [`super::structure`].
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Document>();
    schema.insert("title".into(), "Clusterfile".into());
    schema.to_value()
}
