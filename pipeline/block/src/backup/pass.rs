//! One pass over the source: hands pages to workers, uploads packs, settles pages.
//!
//! A page is settled when every pack it needs has arrived in the store, never earlier. So
//! whatever is in the book can be named by a checkpoint or a manifest, whenever power is cut.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dualsync_block_store::contract::ObjectLock;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::backup::book::{Book, read_back};
use crate::backup::run::Run;
use crate::backup::worker::{Change, PageJob, PageReport, Report, Shared, Ticket, work};
use crate::backup::{BackupError, Counts};
use crate::locking;
use crate::names;
use crate::pack::{PackEntry, SealedPack};
use crate::page::{PackRef, PageIndex, StoredBlock};
use crate::pagetable::PageTable;
use crate::pool::Buffer;
use crate::repository::Repository;
use crate::seal::random_bytes;

/// Packs whose contents are kept before the unneeded ones are forgotten.
const ARRIVED_MAX: usize = 16;

/// Which pages a pass looks at, and how.
pub enum Plan {
    /// Every page from the first on, compared with the parent and an interrupted run's pages.
    Everything {
        /// The interrupted run's pages and the blocks of its source.
        extra: Option<(PageTable, u64)>,
    },
    /// These positions of these pages, sent whatever they are.
    Resend(VecDeque<(PageIndex, Vec<usize>)>),
}

/// A pack that arrived.
struct Arrived {
    ticket: Ticket,
    pack: PackRef,
    size: usize,
    entries: Vec<PackEntry>,
}

/// A page whose packs have not all arrived.
struct Draft {
    report: PageReport,
    missing: usize,
}

/// One pass.
pub struct Pass<'a> {
    repository: Arc<Repository>,
    book: &'a mut Book,
    run: &'a mut Run,
    counts: &'a mut Counts,
    first: bool,
    uploads: JoinSet<Result<Arrived, BackupError>>,
    arrived: HashMap<Ticket, Arrived>,
    drafts: VecDeque<Draft>,
    /// The pack that each worker fills, as far as its reports tell.
    open: HashMap<usize, u64>,
    next_page: u64,
    /// Pages settled out of order, above `settled_to`.
    settled: HashSet<u64>,
    settled_to: u64,
}

impl<'a> Pass<'a> {
    /// A pass that writes into `book`; `first` when no page was settled before.
    pub fn new(
        repository: Arc<Repository>,
        book: &'a mut Book,
        run: &'a mut Run,
        counts: &'a mut Counts,
        first: bool,
    ) -> Self {
        Self {
            repository,
            book,
            run,
            counts,
            first,
            uploads: JoinSet::new(),
            arrived: HashMap::new(),
            drafts: VecDeque::new(),
            open: HashMap::new(),
            next_page: 0,
            settled: HashSet::new(),
            settled_to: 0,
        }
    }

    /// Carries `plan` out with `workers` threads.
    pub async fn carry_out(mut self, shared: Shared, mut plan: Plan, workers: usize) -> Result<(), BackupError> {
        let (job_sender, jobs) = mpsc::channel::<PageJob>(workers);
        let (report_sender, mut reports) = mpsc::channel(workers * 2);
        let (shared, jobs) = (Arc::new(shared), Arc::new(Mutex::new(jobs)));
        let threads: Vec<_> = (0..workers)
            .map(|number| {
                let (shared, jobs, reports) = (Arc::clone(&shared), Arc::clone(&jobs), report_sender.clone());
                tokio::task::spawn_blocking(move || work(number, &shared, &jobs, &reports))
            })
            .collect();
        drop((report_sender, jobs));
        let mut job_sender = Some(job_sender);
        let mut waiting = None;
        loop {
            if waiting.is_none() && job_sender.is_some() {
                waiting = self.next_job(&mut plan).await?;
                if waiting.is_none() {
                    // The workers finish their packs and end.
                    job_sender = None;
                }
            }
            tokio::select! {
                permit = reserve(job_sender.as_ref(), waiting.is_some()) => {
                    if let (Some(permit), Some(job)) = (permit, waiting.take()) {
                        permit.send(job);
                    }
                }
                report = reports.recv() => match report {
                    Some(report) => self.take(report).await?,
                    None => break,
                },
                Some(upload) = self.uploads.join_next() => self.take_upload(upload).await?,
                () = self.run.next_heartbeat() => self.run.heartbeat(&self.repository).await?,
            }
        }
        while let Some(upload) = self.uploads.join_next().await {
            self.take_upload(upload).await?;
        }
        for thread in threads {
            thread.await.map_err(BackupError::Worker)?;
        }
        if self.drafts.is_empty() { Ok(()) } else { Err(BackupError::Unsettled(self.drafts.len())) }
    }

    async fn next_job(&mut self, plan: &mut Plan) -> Result<Option<PageJob>, BackupError> {
        match plan {
            Plan::Everything { extra } => {
                let index = PageIndex(self.next_page);
                if index.0 >= self.book.pages() {
                    return Ok(None);
                }
                self.next_page += 1;
                let old = self.book.page(index).await.map_err(BackupError::Parent)?;
                // What an interrupted run left is a hint: damaged, it is not used.
                let known = match extra {
                    Some((table, blocks)) => self.book.foreign(table, *blocks, index).await.ok().flatten(),
                    None => None,
                };
                Ok(Some(PageJob { old, extra: known, only: None }))
            }
            Plan::Resend(list) => {
                let Some((index, positions)) = list.pop_front() else { return Ok(None) };
                let old = self.book.page(index).await.map_err(BackupError::Parent)?;
                Ok(Some(PageJob { old, extra: None, only: Some(positions) }))
            }
        }
    }

    async fn take(&mut self, report: Report) -> Result<(), BackupError> {
        match report {
            Report::Failed(error) => Err(error.into()),
            Report::Pack(ticket, sealed) => {
                self.uploads.spawn(upload(
                    Arc::clone(&self.repository),
                    Arc::clone(self.run.progress()),
                    ticket,
                    sealed,
                    self.book.lock,
                ));
                Ok(())
            }
            Report::Page(report) => {
                self.counts.read_bytes += report.read_bytes;
                self.counts.free_blocks += report.free_blocks;
                let sent = report.changes.iter().filter_map(|(_, change)| match change {
                    Change::Sent { ticket, .. } => Some(*ticket),
                    _ => None,
                });
                let tickets: HashSet<Ticket> = sent.collect();
                self.open.insert(report.open.worker, report.open.number);
                let missing = tickets.iter().filter(|ticket| !self.arrived.contains_key(ticket)).count();
                self.drafts.push_back(Draft { report, missing });
                if missing == 0 { self.settle_ready().await } else { Ok(()) }
            }
        }
    }

    async fn take_upload(
        &mut self,
        upload: Result<Result<Arrived, BackupError>, tokio::task::JoinError>,
    ) -> Result<(), BackupError> {
        let arrived = upload.map_err(BackupError::Worker)??;
        self.book.put_pack(arrived.pack.sha256, arrived.size);
        self.run.pack_arrived();
        let ticket = arrived.ticket;
        self.arrived.insert(ticket, arrived);
        for draft in &mut self.drafts {
            let needs = |(_, change): &(usize, Change)| matches!(change, Change::Sent { ticket: wanted, .. } if *wanted == ticket);
            if draft.report.changes.iter().any(needs) {
                draft.missing -= 1;
            }
        }
        self.settle_ready().await?;
        if self.first && self.run.is_checkpoint_due() {
            self.book.put_map().await?;
            self.run.checkpoint(&self.repository, self.book, self.settled_to).await?;
        }
        Ok(())
    }

    async fn settle_ready(&mut self) -> Result<(), BackupError> {
        let mut waiting = VecDeque::new();
        while let Some(draft) = self.drafts.pop_front() {
            if draft.missing > 0 {
                waiting.push_back(draft);
                continue;
            }
            let changes =
                draft.report.changes.iter().map(|(position, change)| Ok((*position, self.settled_block(*change)?)));
            let changes = changes.collect::<Result<Vec<_>, BackupError>>()?;
            self.book.settle(&draft.report.old, &changes, self.first).await?;
            self.mark_settled(draft.report.old.index().0);
        }
        self.drafts = waiting;
        self.forget_packs();
        Ok(())
    }

    /// Forgets what is in packs that no page will name any more, so that memory stays bounded.
    fn forget_packs(&mut self) {
        if self.arrived.len() < ARRIVED_MAX {
            return;
        }
        let changes = self.drafts.iter().flat_map(|draft| &draft.report.changes);
        let needed: HashSet<Ticket> = changes
            .filter_map(|(_, change)| match change {
                Change::Sent { ticket, .. } => Some(*ticket),
                _ => None,
            })
            .collect();
        let open = &self.open;
        let is_open = |ticket: &Ticket| open.get(&ticket.worker).is_none_or(|number| ticket.number >= *number);
        self.arrived.retain(|ticket, _| is_open(ticket) || needed.contains(ticket));
    }

    fn mark_settled(&mut self, index: u64) {
        self.settled.insert(index);
        while self.settled.remove(&self.settled_to) {
            self.settled_to += 1;
        }
    }

    fn settled_block(&mut self, change: Change) -> Result<Option<StoredBlock>, BackupError> {
        match change {
            Change::Zero => Ok(None),
            Change::Known(block) => Ok(Some(block)),
            Change::Sent { ticket, entry } => {
                let arrived = self.arrived.get(&ticket);
                let found = arrived.and_then(|arrived| Some((arrived.pack, arrived.entries.get(entry)?)));
                let (pack, entry) = found.ok_or(BackupError::Unsettled(1))?;
                self.counts.sent_blocks += 1;
                if !self.first {
                    self.counts.resent_blocks += 1;
                }
                Ok(Some(StoredBlock { hash: entry.hash, pack, place: entry.place }))
            }
        }
    }
}

/// Room for a job, once there is a job; waits for ever when there is none.
async fn reserve(sender: Option<&mpsc::Sender<PageJob>>, has_job: bool) -> Option<mpsc::Permit<'_, PageJob>> {
    match sender {
        // Without a receiver every worker has ended; their reports say why.
        Some(sender) if has_job => match sender.reserve().await {
            Ok(permit) => Some(permit),
            Err(_) => std::future::pending().await,
        },
        _ => std::future::pending().await,
    }
}

/// One pack in a hundred is read back whole. The draw is fresh and stays here: whatever stands in
/// the pack, its salt too, would tell the store which hundredth it has to keep.
fn is_sampled(draw: [u8; 2]) -> bool {
    u16::from_le_bytes(draw) < u16::MAX / 100
}

async fn upload(
    repository: Arc<Repository>,
    progress: Arc<crate::events::Progress>,
    ticket: Ticket,
    sealed: SealedPack<Buffer>,
    lock: Option<ObjectLock>,
) -> Result<Arrived, BackupError> {
    let SealedPack { buffer, sha256, salt, entries } = sealed;
    let size = buffer.len();
    let body = Bytes::from_owner(buffer);
    let key = names::pack(&sha256);
    locking::put(&repository, &key, body.clone(), sha256, lock).await?;
    progress.transfer(size as u64);
    if is_sampled(random_bytes()?) {
        read_back(&repository, &key, &body).await?;
    }
    Ok(Arrived { ticket, pack: PackRef { sha256, salt }, size, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_draw_in_a_hundred_is_read_back() {
        let sampled = (0..=u16::MAX).filter(|draw| is_sampled(draw.to_le_bytes())).count();
        assert!((640..=656).contains(&sampled), "{sampled} of 65536");
    }
}
