"""What AISimulate models, in both wheels."""

from simulators.simulator import Coverage

NOTES = {
    "scheduler": "vLLM's, whatever the engine",
    "chunked_prefill": "always on; in the calibrated track of 0.1.0 a chunk that is not its prompt's last and has no decode beside it "
    "lacks a step's fixed cost, in that of 0.13.0 a step of chunks and decodes has it twice",
    "context_dependent_decode": "of a batch's mean context, in 0.1.0 with no decode step under 1 ms",
    "tensor_parallel": "in the shipped times, or as profiled",
    "pipeline_parallel": "its setting is passed on, but two stages take as long as one device",
    "experts, latent_attention, windows, quantisation": "in the shipped times of models that it knows, not in the calibrated track's",
    "expert_parallel, data_parallel": "in the shipped and matched tracks, replicas without dummy batches",
    "speculation": "0.13.0 has it, as its setting says",
    "closed_loop": "all slots begin at once, and sessions whose turns branch or join are sent when they were",
}


def covered(*, offset: bool, tokenising: bool, drafting: bool) -> Coverage:
    """As configured. offset: the profile's front end is added to what comes out. tokenising, drafting: its settings for it are given."""
    frontend = [word for word, on in (("the profile's, added to what comes out", offset), ("a queue that tokenises", tokenising)) if on]
    notes = {**NOTES, "frontend_cost": " and ".join(frontend) or "none"}
    return Coverage(
        chunked_prefill="partly",
        prefix_caching="yes",
        kv_limit="yes",
        max_num_seqs="yes",
        token_budget="yes",
        preemption="yes",
        context_dependent_decode="yes",
        tensor_parallel="yes",
        pipeline_parallel="no",
        disaggregation="yes",
        frontend_cost="partly" if frontend else "no",
        token_times="no",
        gqa="yes",
        experts="partly",
        expert_parallel="partly",
        data_parallel="partly",
        latent_attention="partly",
        windows="partly",
        quantisation="partly",
        speculation="partly" if drafting else "no",
        closed_loop="partly",
        notes="; ".join(f"{what}: {note}" for what, note in notes.items()),
    )
