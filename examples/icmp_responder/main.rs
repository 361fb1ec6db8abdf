// SPDX-License-Identifier: Apache-2.0

//! Serves network services whose clients get a link to this pod and a pair of addresses, so that
//! they can ping it: NSM's cmd-nse-icmp-responder without SR-IOV and pprof.
//!
//! It is configured by `NSM_*` variables, which `--help` prints, and runs until a signal ends it or
//! no client has needed it for `NSM_IDLE_TIMEOUT`. At its end it always unregisters.

mod config;
mod routes;

use std::process::ExitCode;

use nsm::{
    App,
    api::pb::registry::NetworkService,
    elements::{
        dns_context::DnsContext,
        mechanism::{self, Names},
        on_idle::OnIdle,
        point_to_point::PointToPoint,
        policy_route::PolicyRoutes,
        send_fd::{self, Netns},
    },
};

use self::config::Config;

#[tokio::main]
async fn main() -> ExitCode {
    App::run(env!("CARGO_CRATE_NAME"), Config::read, async |app: App, config: Config| {
        let pool = PointToPoint::new(config.addresses);
        let (policies, file) = routes::follow(config.routes);
        app.tasks().spawn(file);
        let mut endpoint = app
            .endpoint()
            .with(if config.strict { pool.strict() } else { pool })
            .with(PolicyRoutes::follow(policies))
            .with(mechanism::Endpoint::new(Names::of_pod()))
            .with(DnsContext::new(config.dns))
            .with(send_fd::Endpoint::new(Netns::own()?));
        for (name, value) in config.labels {
            endpoint = endpoint.label(name, value);
        }
        for name in config.services {
            let payload = config.payload.clone();
            endpoint = match config.register {
                true => endpoint.offer_service(NetworkService { name, payload, ..Default::default() }),
                false => endpoint.offer_existing(name),
            };
        }
        let Some(after) = config.idle else { return Ok(endpoint.run(app.stopped()).await?) };
        let idle = OnIdle::new(after);
        let until = idle.idle();
        endpoint = endpoint.with(idle);
        let ended = async {
            tokio::select! {
                () = app.stopped() => {}
                () = until => tracing::info!(?after, "no client: ends"),
            }
        };
        Ok(endpoint.run(ended).await?)
    })
    .await
}
