//! The configuration of a module's virtual machine.

use crate::message::any;
use crds::ObjectKey;
use crds::extensions::{EnvValueSource, FailStrategy, Wasm};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use xds::envoy::pb::envoy::config::core::v3::{async_data_source, data_source::Specifier};
use xds::envoy::pb::envoy::extensions::wasm::v3::{
    EnvironmentVariables, FailurePolicy, PluginConfig, VmConfig, plugin_config::Vm,
};
use xds::envoy::pb::google::protobuf::StringValue;
use xds::envoy::{AsyncDataSource, DataSource};

const RUNTIME: &str = "envoy.wasm.runtime.v8";

pub(super) fn plugin(owner: &ObjectKey, wasm: &Wasm) -> PluginConfig {
    let config = wasm.plugin_config.as_ref().filter(|it| !it.is_empty());
    let policy = match wasm.fail_strategy {
        FailStrategy::FailClose => FailurePolicy::FailClosed,
        FailStrategy::FailOpen => FailurePolicy::FailOpen,
        FailStrategy::FailReload => FailurePolicy::FailReload,
    };
    PluginConfig {
        name: format!("{}.{}", owner.namespace, owner.name),
        root_id: wasm.plugin_name.clone(),
        configuration: config.map(|it| any(&StringValue { value: sorted(&Value::Object(it.clone())).to_string() })),
        failure_policy: policy.into(),
        vm: Some(Vm::VmConfig(VmConfig {
            runtime: RUNTIME.into(),
            code: Some(code(wasm)),
            environment_variables: environment(wasm),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// As Istio sends it, however it is written.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<&String, &Value> = map.iter().collect();
            map.into_iter().map(|(name, it)| (name.clone(), sorted(it))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn code(wasm: &Wasm) -> AsyncDataSource {
    let path = wasm.url.strip_prefix("file://").unwrap_or_default();
    let file = DataSource { specifier: Some(Specifier::Filename(path.into())), ..Default::default() };
    AsyncDataSource { specifier: Some(async_data_source::Specifier::Local(file)) }
}

fn environment(wasm: &Wasm) -> Option<EnvironmentVariables> {
    let env = &wasm.vm_config.env;
    if env.is_empty() {
        return None;
    }
    let of = |source| env.iter().filter(move |it| it.value_from == source);
    Some(EnvironmentVariables {
        host_env_keys: of(EnvValueSource::Host).map(|it| it.name.clone()).collect(),
        key_values: HashMap::from_iter(of(EnvValueSource::Inline).map(|it| (it.name.clone(), it.value.clone()))),
    })
}
