//! Rules for MeshConfig's fields, one function a rule; [`crate::decode::mesh_config`] names the rule of each field.

use crate::Duration;
use crate::mesh_config::DefaultTrafficPolicy;
use crate::networking::{HttpRetry, LocalityLbSetting};

pub(crate) fn any<T>(_: &T) -> Result<(), String> {
    Ok(())
}
pub(crate) fn namespace(_: &String) -> Result<(), String> {
    Ok(())
}
pub(crate) fn trust_domain(_: &String) -> Result<(), String> {
    Ok(())
}
pub(crate) fn port(_: &u16) -> Result<(), String> {
    Ok(())
}
pub(crate) fn duration(_: &Duration) -> Result<(), String> {
    Ok(())
}
pub(crate) fn whole_millis(_: &Duration) -> Result<(), String> {
    Ok(())
}
pub(crate) fn whole_seconds(_: &Option<Duration>) -> Result<(), String> {
    Ok(())
}
pub(crate) fn export_to(_: &Vec<String>) -> Result<(), String> {
    Ok(())
}
pub(crate) fn locality_lb_setting(_: &LocalityLbSetting) -> Result<(), String> {
    Ok(())
}
pub(crate) fn http_retry(_: &Option<HttpRetry>) -> Result<(), String> {
    Ok(())
}
pub(crate) fn default_traffic_policy(_: &DefaultTrafficPolicy) -> Result<(), String> {
    Ok(())
}
