//! The configuration in force, and how another one takes its place while the router runs: by SIGHUP, by an
//! operator over HTTP, or by the program that embeds the router. All three come here, one at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tracing::{error, info};

use crate::config::{Config, ConfigError, Difference, Limits};
use crate::events::What;
use crate::registry::Change;
use crate::shared::Shared;

/// Where a configuration is read from, each time it is asked for.
pub type Source = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Takes configurations over.
pub(crate) struct Reloader {
    shared: Arc<Shared>,
    config: Mutex<Config>,
    turn: tokio::sync::Mutex<()>,
    source: Option<Source>,
}

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is nothing to read.
    #[error("nothing to reload: the router was started without --config")]
    NoSource,
    /// What was read has a mistake, and the old configuration stays in force.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Reloader {
    /// For a router that runs with `config`.
    pub(crate) fn new(config: Config, source: Option<Source>, shared: Arc<Shared>) -> Self {
        Self { shared, config: Mutex::new(config), turn: tokio::sync::Mutex::default(), source }
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Config {
        self.lock().clone()
    }

    /// Reads the configuration again, and takes it over. With a mistake in it, nothing changes.
    pub(crate) async fn reload(&self) -> Result<Difference, ReloadError> {
        let source = self.source.as_ref().ok_or(ReloadError::NoSource)?;
        let _turn = self.turn.lock().await;
        let new = match source() {
            Ok(new) => new,
            Err(mistake) => return Err(self.refuse(mistake).into()),
        };
        Ok(self.take_over(new).await?)
    }

    /// Takes a configuration over. With a mistake in it, nothing changes.
    pub(crate) async fn take(&self, new: Config) -> Result<Difference, ConfigError> {
        let _turn = self.turn.lock().await;
        self.take_over(new).await
    }

    async fn take_over(&self, new: Config) -> Result<Difference, ConfigError> {
        new.validate().map_err(|mistake| self.refuse(mistake))?;
        let config = self.config();
        let mut difference = config.difference(&new);
        difference.changes = changes(&config, &new, &difference.needs_restart);
        // What needs a restart keeps its old value, and goes on being reported as different.
        let Config {
            limits,
            heartbeat,
            drain,
            routers,
            tokens,
            default_class,
            classes,
            http_calls,
            ..
        } = new;
        let (admin_token, admin_hosts) = (new.admin_token, new.admin_hosts);
        let max_services_per_session = config.limits.max_services_per_session;
        let limits = Limits { max_services_per_session, ..limits };
        let config = Config {
            limits,
            heartbeat,
            drain,
            routers,
            tokens,
            default_class,
            classes,
            admin_token,
            admin_hosts,
            http_calls,
            ..config
        };
        // With the old address of the admin server the new token has to be right too.
        config.validate().map_err(|mistake| self.refuse(mistake))?;
        self.shared.take_settings(&config);
        *self.lock() = config;
        let policies = self.shared.settings.load().policies.clone();
        // It refuses nothing. When this is answered, all of it is in force.
        let _ = self.shared.registrar.ask(Change::Policies(policies)).await;
        let Difference { applied, needs_restart, .. } = difference.clone();
        info!(applied = applied.join(", "), needs_restart = needs_restart.join(", "), "reloaded");
        self.shared.reloads.note(true);
        self.shared.events.note(What::Reloaded { applied, needs_restart });
        Ok(difference)
    }

    fn refuse(&self, mistake: ConfigError) -> ConfigError {
        error!(%mistake, "not reloaded: the old configuration stays in force");
        self.shared.reloads.note(false);
        self.shared.events.note(What::NotReloaded { mistake: mistake.to_string() });
        mistake
    }

    fn lock(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// One value of a configuration that differs in another one.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyChange {
    /// Where it stands, such as `classes.matchsvr.park_ms`.
    pub key: String,
    /// What it was; null where there was nothing.
    pub from: Value,
    /// What it is to be.
    pub to: Value,
    /// It keeps its old value until the router starts again.
    pub needs_restart: bool,
}

/// Every value that differs. `needs_restart` are the keys that a running router does not take over.
fn changes(old: &Config, new: &Config, needs_restart: &[String]) -> Vec<KeyChange> {
    let mut changes = Vec::new();
    compare("", &shown(old), &shown(new), &mut |key, from, to| {
        let under = |whole: &String| {
            key.strip_prefix(whole.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let needs_restart = needs_restart.iter().any(under);
        changes.push(KeyChange { key: key.to_owned(), from, to, needs_restart });
    });
    changes
}

fn compare(key: &str, old: &Value, new: &Value, note: &mut impl FnMut(&str, Value, Value)) {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        if old != new {
            note(key, old.clone(), new.clone());
        }
        return;
    };
    let added = after.keys().filter(|name| !before.contains_key(*name));
    for name in before.keys().chain(added) {
        let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let value = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned();
        let (old, new) =
            (value(before).unwrap_or(Value::Null), value(after).unwrap_or(Value::Null));
        compare(&inner, &old, &new, note);
    }
}

/// A configuration as operators may see it.
pub(crate) fn shown(config: &Config) -> Value {
    // Numbers, texts and lists under names that are texts, and secrets write what may be seen of them: there is
    // nothing that JSON does not have.
    serde_json::to_value(config).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_by_its_key_with_both_values() {
        let old = Config::default().with_class("a", 1).with_class("b", 2);
        let mut new = Config::default().with_class("a", 1);
        new.limits.max_connections = 5;
        new.limits.max_services_per_session = 6;
        new.name = "north".to_owned();
        let difference = old.difference(&new);
        let changes = changes(&old, &new, &difference.needs_restart);
        let told: Vec<_> =
            changes.iter().map(|change| (&*change.key, &change.to, change.needs_restart)).collect();
        assert_eq!(
            told,
            [
                ("classes.b", &Value::Null, false),
                ("limits.max_connections", &json!(5), false),
                ("limits.max_services_per_session", &json!(6), true),
                ("name", &json!("north"), true),
            ]
        );
        assert_eq!(changes[3].from, json!("router"));
        assert_eq!(changes[0].from["id"], json!(2));
    }
}
