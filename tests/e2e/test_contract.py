"""What users rely on, tried on the installed chart: the tests are those of tests/integration, the same functions.

There they run against an operator in the checkout, here against the one in the image, with the chart's rights.
"""

import pytest

from tests.integration.test_operator_catching_up import (
    test_absent_last_success_is_passed_as_the_empty_string,
    test_chain_is_held_when_retries_are_exhausted_until_marked,
    test_failed_attempts_and_old_jobs_are_pruned,
    test_first_failure_holds_back_later_slots_until_its_retry_succeeds,
    test_hanging_gated_run_times_out_and_its_slot_runs_again,
    test_job_made_by_kubectl_from_the_cronjob_is_released,
    test_job_that_vanishes_is_lost_and_its_slot_runs_again,
    test_missed_slots_collapse_without_backfill,
    test_own_argument_names_format_and_places,
    test_ten_missed_slots_run_in_order_with_exact_arguments,
    test_unknown_image_times_out_and_heals,
)
from tests.integration.test_operator_commands import (
    test_bad_value_is_refused_in_words_and_changes_nothing,
    test_mark_success_in_the_past_runs_a_range_again,
    test_mark_success_now_clears_the_error_and_moves_on,
    test_reset_and_mark_never_let_two_runs_overlap,
    test_reset_forgets_all_and_runs_nothing,
    test_run_now_runs_once_with_further_arguments,
)
from tests.integration.test_operator_deletion import (
    test_deletion_in_the_foreground_works,
    test_deletion_while_it_runs_removes_everything,
    test_resource_that_is_made_again_starts_afresh,
)
from tests.integration.test_operator_plain import (
    test_missed_slots_of_a_plain_job_collapse_into_one_run,
    test_nothing_runs_before_the_first_slot,
    test_plain_job_that_fails_twice_is_in_the_books_and_then_recovers,
    test_plain_run_beyond_its_deadline_is_a_failed_attempt_and_is_retried,
)
from tests.integration.test_operator_rollouts import (
    test_failing_plain_job_is_replaced_by_a_rollout,
    test_missing_and_unfinished_web_app_is_told_and_heals,
    test_suspended_job_with_an_outdated_image_is_replaced,
)
from tests.integration.test_operator_schedules import (
    test_native_slot_runs_and_is_recorded,
    test_resuming_a_plain_job_invents_no_run,
    test_resuming_with_backfill_runs_what_was_missed,
    test_suspending_lets_a_run_end_and_starts_no_other,
)

pytestmark = [pytest.mark.side_by_side, pytest.mark.timeout(1500)]
