"""The tasks of the flows: the stages, and the steps before and after them."""

import tasks.plain_errors  # noqa: F401
from tasks.camera_path import check_taken_path, keep_camera_path, read_camera_path
from tasks.captures import capture, check_capture
from tasks.choice import ModelVersion, choose, model_versions, note_model, pin_model
from tasks.clean_up import clean_up_jobs, list_clean_up
from tasks.find import (
    find_dataset,
    find_model,
    find_registered,
    find_registered_dataset,
    find_registered_model,
    find_shown_model,
    no_such_scene,
)
from tasks.gallery import (
    gallery_file,
    refresh_gallery,
    refresh_scene_page,
    update_pages,
    write_gallery,
    write_scene_page,
)
from tasks.housekeeping import forget_old_runs, nothing_to_do
from tasks.label import label_run, special_words
from tasks.quality import psnr_gate, show_quality
from tasks.reprocess import LookedAt, list_looked_at, start_new_captures
from tasks.run import end_without_cancelling
from tasks.scene_frame import find_scene_frames, fit_shot, scene_frame_of, warn_of_new_scene_frame
from tasks.server import check_server
from tasks.shot import Shot, find_shot, read_shot
from tasks.stages.changes import find_changes
from tasks.stages.compare import (
    check_other_model,
    check_same_frame,
    find_older_visit,
    keep_comparable,
    then_and_now,
)
from tasks.stages.export import export, export_for_page, find_forms, find_scale_to_export
from tasks.stages.page import publish_page
from tasks.stages.prepare import prepare
from tasks.stages.render import render_in_shards
from tasks.stages.scale import find_scale, measure_scene, read_measurements, read_metres
from tasks.stages.train import find_start, train
from tasks.summary import summarize
from tasks.view import opened_page, served_page, until_ended, wait_for_page
from tasks.visit import Visit
from tasks.workspace import LOCAL, all_workspaces, check_reference, load_workspace, open_workspace, resolve_profile

__all__ = [
    "LOCAL",
    "LookedAt",
    "ModelVersion",
    "Shot",
    "Visit",
    "all_workspaces",
    "capture",
    "check_capture",
    "check_other_model",
    "check_reference",
    "check_same_frame",
    "check_server",
    "check_taken_path",
    "choose",
    "clean_up_jobs",
    "end_without_cancelling",
    "export",
    "export_for_page",
    "find_changes",
    "find_dataset",
    "find_forms",
    "find_model",
    "find_older_visit",
    "find_registered",
    "find_registered_dataset",
    "find_registered_model",
    "find_scale",
    "find_scale_to_export",
    "find_scene_frames",
    "find_shot",
    "find_shown_model",
    "find_start",
    "fit_shot",
    "forget_old_runs",
    "gallery_file",
    "keep_camera_path",
    "keep_comparable",
    "label_run",
    "list_clean_up",
    "list_looked_at",
    "load_workspace",
    "measure_scene",
    "model_versions",
    "no_such_scene",
    "note_model",
    "nothing_to_do",
    "open_workspace",
    "opened_page",
    "pin_model",
    "prepare",
    "psnr_gate",
    "publish_page",
    "read_camera_path",
    "read_measurements",
    "read_metres",
    "read_shot",
    "refresh_gallery",
    "refresh_scene_page",
    "render_in_shards",
    "resolve_profile",
    "scene_frame_of",
    "served_page",
    "show_quality",
    "special_words",
    "start_new_captures",
    "summarize",
    "then_and_now",
    "train",
    "until_ended",
    "update_pages",
    "wait_for_page",
    "warn_of_new_scene_frame",
    "write_gallery",
    "write_scene_page",
]
